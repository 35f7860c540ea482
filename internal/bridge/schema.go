package bridge

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// Tables of the platform, in its schema.
const (
	platformSchema  = "public"
	jobsTable       = "simulation_jobs"
	resultsTable    = "simulation_results"
	structuresTable = "structures"
	templatesTable  = "workflow_templates"
)

// schema is which tables and columns there are.
type schema map[string]table

// table is the columns by name.
type table map[string]column

// column is what must be known to write a value: it is sent as a text and cast.
type column struct {
	cast     string   // the type, quoted where needed
	length   int      // the most characters; 0: any number
	nullable bool     // NULL may be written
	labels   []string // of an enumeration
}

const selectColumns = `
SELECT c.table_name::text, c.column_name::text, format('%I.%I', c.udt_schema, c.udt_name), c.is_nullable = 'YES',
	coalesce(c.character_maximum_length, 0)::int,
	ARRAY(SELECT e.enumlabel::text FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid JOIN pg_namespace n ON n.oid = t.typnamespace
		WHERE t.typname = c.udt_name AND n.nspname = c.udt_schema ORDER BY e.enumsortorder)
FROM information_schema.columns c
WHERE c.table_schema = $1 AND c.table_name = ANY($2::text[])`

// look reads which columns there are.
func (s *session) look(ctx context.Context) error {
	found := schema{}
	rows, err := s.pg.Query(ctx, selectColumns, platformSchema, []string{jobsTable, resultsTable, structuresTable, templatesTable})
	if err != nil {
		return err
	}
	var table_, name string
	var c column
	_, err = pgx.ForEachRow(rows, []any{&table_, &name, &c.cast, &c.nullable, &c.length, &c.labels}, func() error {
		if found[table_] == nil {
			found[table_] = table{}
		}
		c.labels = slices.Clone(c.labels)
		found[table_][name] = c
		return nil
	})
	if err != nil {
		return err
	}
	jobs := found[jobsTable]
	if !jobs.has("id") || !jobs.has("status") {
		return fmt.Errorf("%w: the database has no table %s.%s with id and status", ErrNoPlatform, platformSchema, jobsTable)
	}
	s.schema, s.seen = found, time.Now()
	return nil
}

func (t table) has(name string) bool {
	_, ok := t[name]
	return ok
}

// knowsTimeout reports whether the platform is of the generation that has the
// status TIMEOUT: it has kinds of jobs, and if statuses are an enumeration, it is
// one of them.
func (s schema) knowsTimeout() bool {
	jobs := s[jobsTable]
	labels := jobs["status"].labels
	return jobs.has("kind") && (len(labels) == 0 || slices.ContainsFunc(labels, func(l string) bool { return strings.EqualFold(l, statusTimeout) }))
}

// statement puts a statement together. Names of columns are those of this
// package, types those that the catalogue quoted; values are always arguments.
type statement struct {
	table table
	args  []any
}

// value is the placeholder of a value for a column.
func (s *statement) value(name string, text *string) string {
	c := s.table[name]
	if text != nil {
		fitting := c.fit(*text)
		text = &fitting
	}
	s.args = append(s.args, text)
	return fmt.Sprintf("$%d::text::%s", len(s.args), c.cast)
}

// clock is the time of the database; columns without a zone are in UTC.
func (c column) clock() string {
	if strings.Contains(c.cast, "timestamptz") {
		return "now()"
	}
	return "(now() AT TIME ZONE 'UTC')"
}

// fit makes a text storable: PostgreSQL keeps neither the zero byte nor what is
// not UTF-8, a column may be short, and an enumeration has a spelling of its own.
func (c column) fit(text string) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
	if i := slices.IndexFunc(c.labels, func(label string) bool { return strings.EqualFold(label, text) }); i >= 0 {
		return c.labels[i]
	}
	if c.length > 0 && utf8.RuneCountInString(text) > c.length {
		return string([]rune(text)[:c.length-1]) + "…"
	}
	return text
}

// field is a column and what it is to hold; a nil text is NULL.
type field struct {
	name string
	text *string
	// now stands for the clock of the database instead of a text.
	now bool
	// keep leaves a value that is there already.
	keep bool
}

func say(name, text string) field { return field{name: name, text: &text} }

// assignments is the SET list of the fields whose columns exist.
func (s *statement) assignments(fields []field) string {
	var list []string
	for _, f := range fields {
		if !s.table.has(f.name) || f.text == nil && !f.now && !s.table[f.name].nullable {
			continue
		}
		value := s.table[f.name].clock()
		if !f.now {
			value = s.value(f.name, f.text)
		}
		if f.keep {
			value = fmt.Sprintf("coalesce(%q, %s)", f.name, value)
		}
		list = append(list, fmt.Sprintf("%q = %s", f.name, value))
	}
	if s.table.has("updated_at") {
		list = append(list, `"updated_at" = `+s.table["updated_at"].clock())
	}
	return strings.Join(list, ", ")
}

// updateJob changes a row of the jobs that is in a given status.
func (s schema) updateJob(id, status string, fields []field) (sql string, args []any) {
	st := statement{table: s[jobsTable]}
	set := st.assignments(fields)
	if set == "" {
		return "", nil
	}
	where := fmt.Sprintf(`"id" = %s AND upper("status"::text) = %s`, st.value("id", &id), st.plain(status))
	return "UPDATE public.simulation_jobs SET " + set + " WHERE " + where, st.args
}

// plain is the placeholder of a text.
func (s *statement) plain(text string) string {
	s.args = append(s.args, text)
	return fmt.Sprintf("$%d::text", len(s.args))
}

// insertResult adds the result of a job that has none.
func (s schema) insertResult(id string, fields []field) (sql string, args []any) {
	results := s[resultsTable]
	st := statement{table: results}
	var names, values []string
	for _, f := range fields {
		if results.has(f.name) && f.text != nil {
			names = append(names, fmt.Sprintf("%q", f.name))
			values = append(values, st.value(f.name, f.text))
		}
	}
	for _, name := range []string{"created_at", "updated_at"} {
		if results.has(name) {
			names, values = append(names, fmt.Sprintf("%q", name)), append(values, results[name].clock())
		}
	}
	return "INSERT INTO public.simulation_results (" + strings.Join(names, ", ") + ") SELECT " + strings.Join(values, ", ") +
		` WHERE NOT EXISTS (SELECT FROM public.simulation_results WHERE "simulation_job_id" = ` + st.value("simulation_job_id", &id) +
		") ON CONFLICT DO NOTHING", st.args
}
