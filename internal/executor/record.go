package executor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// Format is the version of the attempt directory. A directory of a newer format
// is reported and left alone.
const Format = 1

// spec is the immutable description of an attempt. The values of its
// environment are not here: they reach the supervisor by the handshake only.
type spec struct {
	Format   int           `json:"format"`
	ID       job.ID        `json:"id"`
	Attempt  int           `json:"attempt"`
	Host     string        `json:"host"`
	Steps    []Command     `json:"steps"`
	EnvNames []string      `json:"env_names"`
	Stop     SoftStop      `json:"stop"`
	Soft     time.Duration `json:"soft,omitempty"`
	Hard     time.Duration `json:"hard,omitempty"`
	Limits   Limits        `json:"limits"`
	Groups   groupParents  `json:"groups"`
}

// started identifies what runs. It is durable before the program's first
// instruction, and replaced before each further step.
type started struct {
	Format     int      `json:"format"`
	Step       int      `json:"step"`
	Leader     identity `json:"leader"`
	Supervisor identity `json:"supervisor"`
	Boot       string   `json:"boot"`
	// Since is the boot time at which the first step started, At the same by
	// the wall clock.
	Since time.Duration `json:"since"`
	At    time.Time     `json:"at"`
	Group group         `json:"group"`
}

// stopRequest is the durable wish to end an attempt.
type stopRequest struct {
	Cause job.StopCause `json:"cause"`
}

// beat is the sign of life with the resource use, overwritten in place.
type beat struct {
	Sequence int64         `json:"sequence"`
	Boot     time.Duration `json:"boot"`
	Usage    Usage         `json:"usage"`
}

// ending is what the exit slot holds. The first half of the slot takes the
// provisional record, made when the leader ends, the second half the final one,
// made when nothing is left alive: a torn write of one never harms the other.
type ending struct {
	Final bool     `json:"final"`
	Exit  job.Exit `json:"exit"`
}

const (
	// slotSize is one page of the page cache, the unit that is preallocated.
	slotSize = 4096
	halfSlot = slotSize / 2
	// maxRecord bounds what is read of any control file. A spec holds argument
	// vectors, which Linux limits to a few MiB.
	maxRecord = 16 << 20
)

var (
	errNoRecord = errors.New("no record")
	castagnoli  = checksumTable()
)

// checksumTable is crc32.MakeTable without the tables for speed on large data:
// to make them costs a supervisor a tenth of its start.
func checksumTable() *crc32.Table {
	var t crc32.Table
	for i := range t {
		c := uint32(i)
		for range 8 {
			odd := c & 1
			if c >>= 1; odd == 1 {
				c ^= crc32.Castagnoli
			}
		}
		t[i] = c
	}
	return &t
}

// encodeRecord writes v as a line of checksum and length, and a line of JSON.
func encodeRecord(v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	head := fmt.Sprintf("nanoos %08x %d\n", crc32.Checksum(body, castagnoli), len(body))
	return append(append([]byte(head), body...), '\n'), nil
}

// decodeRecord reads what encodeRecord wrote, followed by nothing but zeros.
// Zeros alone are errNoRecord.
func decodeRecord(b []byte, v any) error {
	b = bytes.TrimRight(b, "\x00")
	if len(b) == 0 {
		return errNoRecord
	}
	head, rest, ok := bytes.Cut(b, []byte("\n"))
	if !ok {
		return errors.New("record is cut")
	}
	var sum uint32
	var size int
	if n, err := fmt.Sscanf(string(head), "nanoos %08x %d", &sum, &size); n != 2 || err != nil {
		return errors.New("record has no valid head")
	}
	if size < 0 || len(rest) != size+1 || rest[size] != '\n' {
		return errors.New("record is cut")
	}
	if crc32.Checksum(rest[:size], castagnoli) != sum {
		return errors.New("record has a wrong checksum")
	}
	if err := json.Unmarshal(rest[:size], v); err != nil {
		return fmt.Errorf("decode record: %w", err)
	}
	return nil
}

// readRecord reads the record in a file.
func readRecord(path string, v any) error {
	b, err := readBounded(path)
	if err != nil {
		return err
	}
	if err := decodeRecord(b, v); err != nil {
		return fmt.Errorf("read %s: %w", filepath.Base(path), err)
	}
	return nil
}

func readBounded(path string) ([]byte, error) {
	f, err := open(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var b bytes.Buffer
	b.Grow(slotSize + bytes.MinRead) // the slot and nearly every other file in one go
	_, err = b.ReadFrom(io.LimitReader(f, maxRecord+1))
	if err == nil && b.Len() > maxRecord {
		err = fmt.Errorf("read %s: larger than %d bytes", filepath.Base(path), maxRecord)
	}
	return b.Bytes(), err
}

// writeRecord puts v under its name and flushes file and directory. The name
// appears by renaming, so a process that is killed leaves all or nothing; the
// flush follows the rename, which saves a disk commit, and a file torn by power
// loss before it shows by its checksum.
func writeRecord(path string, v any) error {
	f, err := placeRecord(path, v)
	if err != nil {
		return err
	}
	defer f.Close()
	return flush(f, filepath.Dir(path))
}

// placeRecord is writeRecord without the flush.
func placeRecord(path string, v any) (*os.File, error) {
	temporary := path + ".new"
	f, err := createRecord(temporary, v)
	if err != nil {
		return nil, err
	}
	if err := os.Rename(temporary, path); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// writeRecordOnce is writeRecord for a name that must not exist yet; otherwise
// the error is fs.ErrExist.
func writeRecordOnce(path string, v any) error {
	temporary := fmt.Sprintf("%s.%d.new", path, os.Getpid())
	f, err := createRecord(temporary, v)
	if err != nil {
		return err
	}
	defer f.Close()
	defer os.Remove(temporary)
	if err := os.Link(temporary, path); err != nil {
		return err
	}
	return flush(f, filepath.Dir(path))
}

func createRecord(path string, v any) (*os.File, error) {
	b, err := encodeRecord(v)
	if err != nil {
		return nil, err
	}
	f, err := open(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(b); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// flush makes an open file and the directories that name it durable.
func flush(f *os.File, dirs ...string) error {
	if err := f.Sync(); err != nil {
		return err
	}
	for _, d := range dirs {
		if err := syncDir(d); err != nil {
			return err
		}
	}
	return nil
}

func syncDir(path string) error {
	d, err := open(path, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// createSlot makes a file of one allocated page of zeros, so that a record can
// be written into it on a full disk. It is not flushed.
func createSlot(path string) (*os.File, error) {
	f, err := open(path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(make([]byte, slotSize)); err != nil {
		f.Close()
		return nil, err
	}
	if err := os.Rename(path+".new", path); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// writeEnding puts the record into its half of the slot and flushes it.
func writeEnding(slot *os.File, e ending) error {
	b, err := encodeRecord(e)
	if err != nil {
		return err
	}
	if len(b) > halfSlot {
		return fmt.Errorf("exit record of %d bytes does not fit its slot", len(b))
	}
	offset := int64(0)
	if e.Final {
		offset = halfSlot
	}
	half := make([]byte, halfSlot)
	copy(half, b)
	if _, err := slot.WriteAt(half, offset); err != nil {
		return fmt.Errorf("write exit record: %w", err)
	}
	if err := syncData(slot); err != nil {
		return fmt.Errorf("flush exit record: %w", err)
	}
	return nil
}

// readEnding returns the final record, else the provisional one. The error is
// errNoRecord or fs.ErrNotExist when there is none, and another for damage.
func readEnding(path string) (ending, error) {
	b, err := readBounded(path)
	if err != nil {
		return ending{}, err
	}
	if len(b) != slotSize {
		return ending{}, fmt.Errorf("exit slot has %d bytes", len(b))
	}
	var e ending
	err = decodeRecord(b[halfSlot:], &e)
	if err == nil && e.Final {
		return e, nil
	}
	if err != nil && !errors.Is(err, errNoRecord) {
		return ending{}, fmt.Errorf("final exit record: %w", err)
	}
	err = decodeRecord(b[:halfSlot], &e)
	if err == nil && e.Final {
		err = errors.New("exit slot is mixed up")
	}
	if err != nil && !errors.Is(err, errNoRecord) {
		return ending{}, fmt.Errorf("provisional exit record: %w", err)
	}
	return e, err
}

// writeBeat overwrites the sign of life. It is not flushed.
func writeBeat(slot *os.File, b beat) error {
	record, err := encodeRecord(b)
	if err != nil {
		return err
	}
	page := make([]byte, slotSize)
	copy(page, record)
	_, err = slot.WriteAt(page, 0)
	return err
}
