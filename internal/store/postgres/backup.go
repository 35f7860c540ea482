package postgres

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
)

// A backup is a compressed tar: header.json says what follows, then come the
// rows of each table in PostgreSQL's text form, cut into pieces, and
// manifest.json at the end says how many there were and what their hashes are.
// A backup without its end is none.

const (
	backupFormat = "nanoos-postgres-1"
	// pieceSize bounds the memory of a backup: a piece of a tar needs its size
	// before its contents.
	pieceSize = 4 << 20
)

// tables are those of a backup, in the order of their foreign meaning. The
// rows of writers die with the processes they belong to.
var tables = []struct{ name string }{
	{"meta"}, {"lanes"}, {"specs"}, {"jobs"}, {"labels"}, {"progress"}, {"attempts"}, {"events"}, {"event_seq"},
	{"queues"}, {"workers"}, {"tokens"}, {"leases"}, {"tickets"},
}

// backupHeader is the first part of a backup.
type backupHeader struct {
	Format string        `json:"format"`
	Schema int64         `json:"schema"`
	At     time.Time     `json:"at"` // by the clock of the database
	Tables []backupTable `json:"tables"`
}

type backupTable struct {
	Name    string   `json:"name"`
	Columns []string `json:"columns"`
}

// backupManifest is the last part of a backup, by table.
type backupManifest map[string]tableSum

type tableSum struct {
	Rows   int64  `json:"rows"`
	SHA256 string `json:"sha256"` // of its pieces, one after the other
}

// Backup writes the state of one commit to w while work goes on (G21). It holds
// a snapshot for as long as it takes.
func (s *Store) Backup(ctx context.Context, w io.Writer) error {
	c, err := s.server.connect(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.takeTime(ctx); err != nil {
		return fault("back up", err)
	}
	tx, err := c.pg.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return fault("back up", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	zip := gzip.NewWriter(w)
	out := &backupWriter{tar: tar.NewWriter(zip)}
	err = out.write(ctx, tx)
	if err == nil {
		err = out.tar.Close()
	}
	if err == nil {
		err = zip.Close()
	}
	if err != nil {
		return cause(ctx, fault("back up", err))
	}
	return nil
}

// takeTime lets the statements of a session take as long as they need.
func (c *conn) takeTime(ctx context.Context) error {
	_, err := c.pg.Exec(ctx, "SELECT set_config('statement_timeout', '0', false), set_config('idle_in_transaction_session_timeout', '0', false)")
	return err
}

type backupWriter struct {
	tar *tar.Writer
	at  time.Time
}

func (b *backupWriter) write(ctx context.Context, tx pgx.Tx) error {
	header, err := headerOf(ctx, tx)
	if err != nil {
		return err
	}
	b.at = header.At
	if err := b.part("header.json", header); err != nil {
		return err
	}
	manifest := backupManifest{}
	for _, t := range header.Tables {
		if manifest[t.Name], err = b.table(ctx, tx.Conn(), t); err != nil {
			return fmt.Errorf("table %s: %w", t.Name, err)
		}
	}
	return b.part("manifest.json", manifest)
}

const selectColumns = `
SELECT a.attname FROM pg_attribute a
WHERE a.attrelid = ('nanoos.' || $1::text)::regclass AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum`

func headerOf(ctx context.Context, tx pgx.Tx) (backupHeader, error) {
	h := backupHeader{Format: backupFormat}
	err := tx.QueryRow(ctx, "SELECT now(), (SELECT max(version) FROM nanoos.schema)").Scan(&h.At, &h.Schema)
	if err != nil {
		return h, err
	}
	for _, t := range tables {
		rows, err := tx.Query(ctx, selectColumns, t.name)
		if err != nil {
			return h, err
		}
		columns, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return h, err
		}
		h.Tables = append(h.Tables, backupTable{t.name, columns})
	}
	return h, nil
}

func (b *backupWriter) part(name string, content any) error {
	raw, err := json.MarshalIndent(content, "", "  ")
	if err != nil {
		return err
	}
	return b.piece(name, raw)
}

func (b *backupWriter) piece(name string, content []byte) error {
	err := b.tar.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(content)), ModTime: b.at})
	if err == nil {
		_, err = b.tar.Write(content)
	}
	return err
}

// table writes the rows of a table.
func (b *backupWriter) table(ctx context.Context, c *pgx.Conn, t backupTable) (tableSum, error) {
	p := &pieces{backup: b, table: t.Name, sum: sha256.New()}
	tag, err := c.PgConn().CopyTo(ctx, p, "COPY "+t.target()+" TO STDOUT")
	if err == nil {
		err = p.flush()
	}
	return tableSum{Rows: tag.RowsAffected(), SHA256: hex.EncodeToString(p.sum.Sum(nil))}, err
}

// target names the table and its columns for COPY.
func (t backupTable) target() string {
	columns := ""
	for i, c := range t.Columns {
		if i > 0 {
			columns += ", "
		}
		columns += pgx.Identifier{c}.Sanitize()
	}
	return pgx.Identifier{"nanoos", t.Name}.Sanitize() + " (" + columns + ")"
}

// pieces cuts what is written to it.
type pieces struct {
	backup *backupWriter
	table  string
	sum    hash.Hash
	buf    []byte
	n      int
}

func (p *pieces) Write(data []byte) (int, error) {
	p.sum.Write(data)
	p.buf = append(p.buf, data...)
	if len(p.buf) < pieceSize {
		return len(data), nil
	}
	return len(data), p.flush()
}

func (p *pieces) flush() error {
	if len(p.buf) == 0 {
		return nil
	}
	p.n++
	err := p.backup.piece(fmt.Sprintf("%s/%06d", p.table, p.n), p.buf)
	p.buf = p.buf[:0]
	return err
}

var errNoManifest = errors.New("the backup ends before its manifest")
