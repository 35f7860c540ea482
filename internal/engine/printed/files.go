package printed

import (
	"errors"
	"io"
	"io/fs"
)

// ReadAll reads a file that must be small.
func ReadAll(files fs.FS, name string, most int64) ([]byte, error) {
	f, err := files.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > most {
		return nil, errors.New("the file is too large")
	}
	return b, nil
}
