package simulation

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"
)

// TestTheModelOfTheProtocolHolds runs scripts/model.sh: docs/model/README.md says
// what it proves.
func TestTheModelOfTheProtocolHolds(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("the search takes half a minute")
	}
	for _, tool := range []string{"spin", "gcc"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%s is not installed", tool)
			}
			t.Skipf("SKIPPED: %s is not installed: the model of the protocol was not checked", tool)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "../../scripts/model.sh").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("\n%s", out)
}
