package worker

import (
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/nano-os/nanoos/internal/engine"
)

func TestLibraryFilesAreJoinedInTheirOrder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	library := fstest.MapFS{"Na/POTCAR": {Data: []byte("sodium\n")}, "Cl/POTCAR": {Data: []byte("chlorine\n")}}
	j := engine.Joined{To: "POTCAR", From: []string{"Na/POTCAR", "Cl/POTCAR", "Na/POTCAR"}}
	if err := stageJoined(root, library, j); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "POTCAR"))
	if err != nil || string(got) != "sodium\nchlorine\nsodium\n" {
		t.Errorf("%q %v", got, err)
	}
	j.From = append(j.From, "Si/POTCAR")
	if err := stageJoined(root, library, j); err == nil {
		t.Error("a file that is not in the library was joined")
	}
	if err := stageJoined(root, nil, j); err == nil {
		t.Error("files were joined without a library")
	}
}
