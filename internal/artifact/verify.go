package artifact

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
)

// ErrDamaged is in the chain of an error about bytes that are not those that
// their hash stands for.
var ErrDamaged = errors.New("the bytes do not match their hash")

// Verify returns a reader of r that ends with ErrDamaged instead of io.EOF when
// what it read does not have the hash.
func Verify(r io.Reader, sha256sum string) io.Reader {
	return &verifier{r: r, sum: sha256.New(), want: sha256sum}
}

type verifier struct {
	r    io.Reader
	sum  hash.Hash
	want string
}

func (v *verifier) Read(b []byte) (int, error) {
	n, err := v.r.Read(b)
	v.sum.Write(b[:n])
	if errors.Is(err, io.EOF) {
		if got := hex.EncodeToString(v.sum.Sum(nil)); got != v.want {
			return n, fmt.Errorf("%w: it is %s instead of %s", ErrDamaged, got, v.want)
		}
	}
	return n, err
}
