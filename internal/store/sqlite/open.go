// Package sqlite keeps the store's contract in one SQLite file, for one
// process on one machine.
//
// A single goroutine writes, and commits together whatever has gathered while
// the last commit was on its way to the disk. Readers have connections and
// snapshots of their own and never wait for it. What Write has returned is on
// the disk (G1); once the disk is full or broken nothing more is written, and
// what was is still read (G23).
package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// Store is an open database.
type Store struct {
	path   string
	now    func() time.Time
	space  func(dir string) (int64, error)
	lock   *os.File
	writes *sql.DB
	reads  *sql.DB

	pool   chan *conn // idle readers; nil stands for one that is not open yet
	writer *writer
}

var _ store.Store = (*Store)(nil)

// Options of Open; the zero value of a field means its default.
type Options struct {
	Now func() time.Time // the clock, asked from several goroutines; time.Now

	filesystem func(dir string) (string, error)
	space      func(dir string) (int64, error)
	version    string // of SQLite; empty asks the library
}

const (
	// minVersion is the first SQLite whose WAL cannot be corrupted by a write
	// and a checkpoint on two connections at once.
	minVersion = "3.51.3"
	// maxReaders bounds the snapshots that are open at once. Reads are short
	// and mostly from memory, so a few saturate a small machine.
	maxReaders = 8
	// quickCheckLimit is the size above which Open checks nothing: the check
	// reads the whole file, some 2 s for 1 GiB, and a start must not take
	// minutes. Larger files are checked with each backup.
	quickCheckLimit = 1 << 30
)

// Open opens the database at path, which it creates if absent. It refuses a
// file that another process has open, one on a network file system, and one
// that is damaged or too new.
func Open(path string, opt Options) (*Store, error) {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.filesystem == nil {
		opt.filesystem = networkFilesystem
	}
	if opt.space == nil {
		opt.space = freeSpace
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	if err := prepareFile(path, opt); err != nil {
		return nil, err
	}
	lock, err := lockProcess(path)
	if err != nil {
		return nil, err
	}
	s := &Store{path: path, now: opt.Now, space: opt.space, lock: lock, pool: make(chan *conn, maxReaders)}
	if err := s.open(opt); err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), s.closeFiles())
	}
	return s, nil
}

// prepareFile makes the directory and an empty file for this user only: the
// driver would create it by the umask. It must not touch the file once the
// driver has it open, for closing any descriptor of it drops SQLite's locks.
func prepareFile(path string, opt Options) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make database directory: %w", err)
	}
	name, err := opt.filesystem(dir)
	if err != nil {
		return fmt.Errorf("look at the file system of %s: %w", dir, err)
	}
	if name != "" {
		return &job.Error{
			Code:    job.Invalid,
			Message: "the database cannot be on a network file system",
			Why:     fmt.Sprintf("%s is on %s, where locks and flushes do not hold what SQLite needs", dir, name),
			Fix:     "choose a data directory on a local disk with --data",
		}
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	return f.Close()
}

// open does what needs the lock.
func (s *Store) open(opt Options) error {
	var err error
	if s.writes, err = sql.Open("sqlite", dsn(s.path, writerPragmas)); err != nil {
		return err
	}
	s.writes.SetMaxOpenConns(1)
	if s.reads, err = sql.Open("sqlite", dsn(s.path, readerPragmas)); err != nil {
		return err
	}
	s.reads.SetMaxOpenConns(maxReaders)
	ctx := context.Background()
	if err := checkVersion(ctx, s.writes, opt.version); err != nil {
		return err
	}
	if err := s.quickCheck(ctx); err != nil {
		return err
	}
	if err := migrate(ctx, s.writes); err != nil {
		return err
	}
	c, err := s.writes.Conn(ctx)
	if err != nil {
		return err
	}
	for range maxReaders {
		s.pool <- nil
	}
	s.writer = startWriter(s, &conn{sql: c, stmts: map[string]*sql.Stmt{}})
	return nil
}

// Pragmas hold for a connection, so they travel in its address; the driver
// runs busy_timeout before all others, so these can wait for a lock.
var (
	commonPragmas = []string{
		"busy_timeout(5000)",
		"journal_mode(WAL)",
		"synchronous(FULL)", // every commit is flushed (G1)
		"foreign_keys(ON)",
		"mmap_size(0)",       // an I/O error on a mapped page would be a SIGBUS
		"temp_store(MEMORY)", // savepoints spill to memory instead of to files
		"trusted_schema(OFF)",
	}
	writerPragmas = append(commonPragmas[:len(commonPragmas):len(commonPragmas)],
		"cache_size(-65536)",           // 64 MiB: the indexes' hot ends of a million jobs
		"wal_autocheckpoint(0)",        // the writer does it, to see its errors (G23)
		"journal_size_limit(67108864)", // a WAL that grew under a long reader shrinks again
	)
	readerPragmas = append(commonPragmas[:len(commonPragmas):len(commonPragmas)],
		"cache_size(-8192)", // 8 MiB each
		"query_only(ON)",
	)
)

func dsn(path string, pragmas []string) string {
	q := url.Values{"_pragma": pragmas}
	u := url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}
	return u.String()
}

// checkVersion refuses a library that can damage the file.
func checkVersion(ctx context.Context, db *sql.DB, version string) error {
	if version == "" {
		if err := db.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&version); err != nil {
			return fmt.Errorf("ask SQLite for its version: %w", err)
		}
	}
	if compareVersions(version, minVersion) < 0 {
		return job.Errorf(job.Internal, "SQLite %s can damage a database in WAL mode; %s is needed", version, minVersion)
	}
	return nil
}

// compareVersions compares dotted numbers; a part that is no number counts as 0.
func compareVersions(a, b string) int {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(as), len(bs)) {
		var x, y int
		if i < len(as) {
			x, _ = strconv.Atoi(as[i])
		}
		if i < len(bs) {
			y, _ = strconv.Atoi(bs[i])
		}
		if c := cmp.Compare(x, y); c != 0 {
			return c
		}
	}
	return 0
}

// quickCheck refuses a damaged file.
func (s *Store) quickCheck(ctx context.Context) error {
	if info, err := os.Stat(s.path); err != nil || info.Size() > quickCheckLimit {
		return err
	}
	var answer string
	err := s.writes.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&answer)
	if err == nil && answer == "ok" {
		return nil
	}
	if err != nil {
		answer = err.Error()
	}
	return &job.Error{
		Code:    job.Internal,
		Message: "the database is damaged",
		Why:     s.path + ": " + answer,
		Fix:     "restore it from a backup; the damaged file was not changed",
		Err:     err,
	}
}

// Read implements store.Store.
func (s *Store) Read(ctx context.Context, fn func(store.ReadTx) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var c *conn
	select {
	case c = <-s.pool:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { s.pool <- c }()
	if c == nil {
		raw, err := s.reads.Conn(context.Background())
		if err != nil {
			return fmt.Errorf("open a reader: %w", err)
		}
		c = &conn{sql: raw, stmts: map[string]*sql.Stmt{}}
	}
	return c.snapshot(ctx, s.now(), fn)
}

// Write implements store.Store.
func (s *Store) Write(ctx context.Context, fn func(store.Tx) error) error {
	return s.writer.calls.Do(ctx, fn)
}

// Stats returns the writer's numbers so far.
func (s *Store) Stats() store.Stats { return s.writer.stats() }

// Close finishes the writes that were queued and the reads that have begun,
// and releases the file.
func (s *Store) Close() error {
	s.writer.calls.Stop()
	var errs []error
	for range maxReaders {
		if c := <-s.pool; c != nil {
			errs = append(errs, c.close())
		}
	}
	return errors.Join(append(errs, s.writer.conn.close(), s.closeFiles())...)
}

func (s *Store) closeFiles() error {
	var errs []error
	for _, db := range []*sql.DB{s.reads, s.writes} { // the last to close writes the WAL back
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(append(errs, s.lock.Close())...)
}
