package sqlite

import (
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"

	driver "modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"

	"github.com/nano-os/nanoos/internal/job"
)

// halt is why nothing is written any more (G23).
type halt struct {
	err *job.Error
	// full says that the disk had no space: writing goes on once it has. Any
	// other failure may have lost what the kernel had promised to flush, and a
	// flush that is tried again would report success; so it is final.
	full bool
}

// spaceFloor is what must be free before a full disk counts as usable again:
// one WAL between two checkpoints, so that it does not fill up at once.
const spaceFloor = checkpointPages * 4096

// failed turns an error of the database into what the callers get, and stops
// the writer if the disk is at fault.
func (w *writer) failed(what string, err error) error {
	code, ok := errorCode(err)
	if !ok {
		return fmt.Errorf("%s: %w", what, err)
	}
	switch {
	case code&0xff == codes.SQLITE_FULL, code == codes.SQLITE_IOERR_SHMSIZE:
		w.setHalt(&halt{full: true, err: &job.Error{
			Code:    job.Unavailable,
			Message: "the disk of the database is full",
			Why:     fmt.Sprintf("%s: %v", w.store.path, err),
			Fix:     "free space on the disk of " + filepath.Dir(w.store.path) + "; writing goes on by itself then, and nothing that was accepted is lost",
			Err:     err,
		}})
	case broken(code):
		w.setHalt(&halt{err: &job.Error{
			Code:    job.Unavailable,
			Message: "the disk of the database failed",
			Why:     fmt.Sprintf("%s %s: %v", what, w.store.path, err),
			Fix:     "look at the kernel's log and the disk of " + filepath.Dir(w.store.path) + ", then restart the server: it reads back what was accepted",
			Err:     err,
		}})
	case code&0xff == codes.SQLITE_BUSY:
		return &job.Error{
			Code:    job.Unavailable,
			Message: "the database is locked by another program",
			Why:     fmt.Sprintf("%s %s: %v", what, w.store.path, err),
			Fix:     "end the program that has " + w.store.path + " open, and try again",
			Err:     err,
		}
	default:
		return fmt.Errorf("%s: %w", what, err)
	}
	return w.halt.err
}

func (w *writer) setHalt(h *halt) {
	w.halt = h
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sum.Halted = nil
	if h != nil {
		w.sum.Halted = h.err
	}
}

// ready reports why nothing can be written; after a full disk it tries.
func (w *writer) ready() error {
	if w.halt == nil {
		return nil
	}
	if !w.halt.full {
		return w.halt.err
	}
	if free, err := w.store.space(filepath.Dir(w.store.path)); err != nil || free < spaceFloor {
		return w.halt.err
	}
	if err := w.probe(); err != nil {
		return w.failed("try to write", err)
	}
	w.setHalt(nil)
	return nil
}

const probeMeta = `
INSERT INTO meta (key, value) VALUES ('probe', ?)
ON CONFLICT (key) DO UPDATE SET value = excluded.value`

// probe commits something that nobody needs.
func (w *writer) probe() error {
	_, err := w.conn.exec(probeMeta, stored(w.store.now()).String())
	return err
}

// checkpoint writes the WAL back when enough has gathered. The writer does it
// itself because SQLite's automatic one ignores its errors, and a flush that
// failed must not be repeated and believed (G23).
func (w *writer) checkpoint() {
	pages, err := w.pagesWritten()
	if err == nil && pages-w.written < checkpointPages {
		return
	}
	w.written = pages
	if err == nil {
		_, err = w.conn.exec("PRAGMA wal_checkpoint(PASSIVE)")
	}
	if err != nil {
		w.failed("write back the log of", err)
	}
}

// pagesWritten returns how many pages the connection has written to the WAL.
func (w *writer) pagesWritten() (n int, err error) {
	err = w.conn.sql.Raw(func(c any) error {
		n, _, err = c.(driver.DBStatus).Status(driver.DBStatusCacheWrite, false)
		return err
	})
	return n, err
}

// lostTransaction reports whether an error of a statement ends the transaction
// for all ops in it.
func lostTransaction(err error) bool {
	code, ok := errorCode(err)
	return ok && (broken(code) || code&0xff == codes.SQLITE_FULL)
}

// broken reports whether an error means that the disk, or what is on it, can
// no longer be trusted.
func broken(code int) bool {
	switch code & 0xff {
	case codes.SQLITE_IOERR, codes.SQLITE_CORRUPT, codes.SQLITE_NOTADB, codes.SQLITE_READONLY,
		codes.SQLITE_CANTOPEN, codes.SQLITE_PROTOCOL, codes.SQLITE_NOMEM:
		return true
	}
	return false
}

// errorCode returns SQLite's extended result code.
func errorCode(err error) (int, bool) {
	e, ok := errors.AsType[*driver.Error](err)
	if !ok {
		return 0, errors.Is(err, sql.ErrConnDone)
	}
	return e.Code(), true
}
