package store

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nano-os/nanoos/internal/job"
)

const (
	defaultPage = 50
	maxPage     = 500
)

// Check returns the number of the job that the page comes after, if there is
// one, or job.Invalid for a query that Jobs must refuse.
func (q JobQuery) Check() (after int64, err error) {
	if q.Limit < 0 || q.Limit > maxPage {
		return 0, job.Errorf(job.Invalid, "limit %d is outside 1…%d", q.Limit, maxPage)
	}
	for _, s := range q.States {
		if !slices.Contains(job.States, s) {
			return 0, job.Errorf(job.Invalid, "there is no state %q", s)
		}
	}
	if q.After == "" {
		return 0, nil
	}
	return q.After.decode(q.Oldest)
}

// Page is how many jobs a page has at most.
func (q JobQuery) Page() int { return cmp.Or(q.Limit, defaultPage) }

// Next is the cursor of a page that ends with the job of this number.
func (q JobQuery) Next(last int64) Cursor {
	return Cursor(base64.RawURLEncoding.EncodeToString([]byte(cursorMark(q.Oldest) + strconv.FormatInt(last, 10))))
}

// Cursor continues a listing; opaque to callers. It names the last job of a
// page and the order of the listing.
type Cursor string

func (c Cursor) decode(oldest bool) (last int64, err error) {
	text, err := base64.RawURLEncoding.DecodeString(string(c))
	if err == nil {
		digits, ok := strings.CutPrefix(string(text), cursorMark(oldest))
		last, err := strconv.ParseInt(digits, 10, 64)
		if ok && err == nil {
			return last, nil
		}
	}
	return 0, &job.Error{
		Code:    job.Invalid,
		Message: "the cursor is not one of this listing",
		Why:     fmt.Sprintf("%.40q", string(c)),
		Fix:     "start from the first page, or keep the order of the page that the cursor came with",
	}
}

func cursorMark(oldest bool) string {
	if oldest {
		return "oldest:"
	}
	return "newest:"
}
