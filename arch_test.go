// Package nanoos_test holds the rules of the house that a machine can check:
// who may import whom, where a library or the clock may be used, what is linked
// into the binary, and that every package says what it is.
package nanoos_test

import (
	"encoding/json"
	"errors"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const module = "github.com/nano-os/nanoos/"

// importRules is the architecture: "a, b < c" means that c may import a and b
// of our packages, and nothing else. Tests may import more.
const importRules = `
NONE                                                < job, crystal, engine/mock, dsn
job                                                 < artifact, executor, auth, celery/outcome
job, auth                                           < store
job, crystal, engine/mock                           < engine
executor, engine/mock                               < early
executor                                            < cmd/nanoos-supervise
job, auth, store                                    < store/storetest
job, store                                          < store/group
job, auth, store                                    < store/column
job, auth, store, store/column, store/group         < store/sqlite
job, auth, store, store/column, store/group, dsn    < store/postgres
NONE                                                < store/postgres/pgtest, celery/redistest, faultproxy, simulation
engine                                              < engine/printed
engine                                              < engine/printed
job, crystal, engine                                < engine/lammps
job, crystal, engine, engine/printed                < engine/qe, engine/vasp
job, store                                          < queue
job, crystal, store, queue, celery/outcome, dsn     < bridge
NONE                                                < celery/wire
job, store, queue, celery/wire, celery/outcome      < celery
job, engine, executor, artifact                     < worker
job, auth, crystal, engine, artifact, store, queue, celery/outcome < api
job, auth, crystal, engine, engine/qe, engine/lammps, engine/vasp, executor, artifact, store, store/sqlite, store/postgres, queue, worker, api, celery, celery/wire, bridge, early < cmd/nanoos
`

// libraries names the only packages of ours that may import a module.
var libraries = map[string][]string{
	"charm.land/lipgloss/v2":                {"cmd/nanoos"},
	"github.com/danielgtaylor/huma/v2":      {"internal/api"},
	"github.com/goccy/go-yaml":              {"cmd/nanoos"},
	"github.com/google/uuid":                {"internal/job"},
	"github.com/jackc/pgx/v5":               {"internal/store/postgres", "internal/bridge"},
	"github.com/pressly/goose/v3":           {"internal/store/sqlite"},
	"github.com/prometheus/client_golang":   {"internal/api", "cmd/nanoos"},
	"github.com/redis/go-redis/v9":          {"internal/celery/wire"},
	"github.com/santhosh-tekuri/jsonschema": {"internal/engine"},
	"github.com/spf13/pflag":                {"cmd/nanoos"},
	"github.com/spf13/cobra":                {"cmd/nanoos"},
	"golang.org/x/sys":                      {"internal/executor", "internal/store/sqlite", "cmd/nanoos"},
	"golang.org/x/term":                     {"cmd/nanoos"},
	"golang.org/x/text":                     {"internal/engine"},
	"modernc.org/sqlite":                    {"internal/store/sqlite"},
	"github.com/google/go-cmp":              {"internal/store/storetest"},
	"pgregory.net/rapid":                    {"internal/store/storetest"},
	"github.com/rogpeppe/go-internal":       {},
	"go.uber.org/goleak":                    {},
}

// clockPackages are where time.Now may be called: the edges. The core takes the
// time as an argument, so that it can be tested and replayed (G10).
var clockPackages = []string{"cmd/nanoos", "internal/worker", "internal/api", "internal/executor", "internal/store/sqlite", "internal/store/postgres", "internal/store/postgres/pgtest", "internal/celery/redistest", "internal/engine/mock", "internal/bridge", "internal/celery", "internal/celery/wire"}

type goPackage struct {
	ImportPath string
	Dir        string
	Name       string
	GoFiles    []string
	Imports    []string
}

func TestPackagesImportOnlyWhatTheArchitectureAllows(t *testing.T) {
	t.Parallel()
	allowed := parseRules(t)
	for _, p := range ourPackages(t) {
		name := shortName(p.ImportPath)
		may, known := allowed[name]
		if !known {
			t.Errorf("%s has no import rule: add it to importRules and to docs/architecture.md", name)
			continue
		}
		for _, imp := range p.Imports {
			if ours, ok := strings.CutPrefix(imp, module); ok && !slices.Contains(may, shortName(ours)) {
				t.Errorf("%s must not import %s", name, shortName(ours))
			}
		}
	}
}

func TestLibrariesAreImportedByOnePackage(t *testing.T) {
	t.Parallel()
	for _, p := range ourPackages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		for _, imp := range p.Imports {
			if !strings.Contains(strings.SplitN(imp, "/", 2)[0], ".") || strings.HasPrefix(imp, module) {
				continue
			}
			lib := libraryOf(imp)
			if lib == "" {
				t.Errorf("%s imports %s, which is no library that the project has chosen", name, imp)
			} else if !slices.Contains(libraries[lib], name) {
				t.Errorf("%s must not import %s: it belongs to %v", name, imp, libraries[lib])
			}
		}
	}
}

func TestEveryPackageHasOnePackageComment(t *testing.T) {
	t.Parallel()
	for _, p := range ourPackages(t) {
		comments := 0
		for _, f := range p.GoFiles {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, f), nil, parser.ParseComments|parser.PackageClauseOnly)
			if err != nil {
				t.Fatal(err)
			}
			if file.Doc != nil {
				comments++
				want := "Package " + p.Name + " "
				if p.Name == "main" {
					want = "Command "
				}
				if !strings.HasPrefix(file.Doc.Text(), want) {
					t.Errorf("%s/%s: the package comment must begin with %q", shortName(p.ImportPath), f, want)
				}
			}
		}
		if comments != 1 {
			t.Errorf("%s has %d package comments, want 1", shortName(p.ImportPath), comments)
		}
	}
}

func TestOnlyTheEdgesReadTheClock(t *testing.T) {
	t.Parallel()
	for _, p := range ourPackages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		if slices.Contains(clockPackages, name) {
			continue
		}
		for _, f := range p.GoFiles {
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, filepath.Join(p.Dir, f), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				x, ok := sel.X.(*ast.Ident)
				if ok && x.Name == "time" && (sel.Sel.Name == "Now" || sel.Sel.Name == "Since" || sel.Sel.Name == "Until") {
					t.Errorf("%s reads the clock: take the time as an argument", fset.Position(sel.Pos()))
				}
				return true
			})
		}
	}
}

// formattedSQL finds statements that are put together with a formatting verb.
var formattedSQL = regexp.MustCompile(`(?i)Sprintf\(\s*["` + "`" + `]\s*(select|insert|update|delete|with)\b`)

func TestT29_StatementsAreConstants(t *testing.T) {
	t.Parallel()
	walkGo(t, "internal/store", func(path string, src []byte) {
		if m := formattedSQL.Find(src); m != nil {
			t.Errorf("%s formats a statement: %s", path, m)
		}
	})
}

// shell finds commands that go through a shell.
var shell = regexp.MustCompile(`exec\.Command(Context)?\([^)]*"(/bin/)?(sh|bash)"`)

func TestT1_NoCommandGoesThroughAShell(t *testing.T) {
	t.Parallel()
	walkGo(t, ".", func(path string, src []byte) {
		if m := shell.Find(src); m != nil {
			t.Errorf("%s starts a shell: %s", path, m)
		}
	})
}

func TestLinkedPackagesAreThoseOfTheGoldenList(t *testing.T) {
	t.Parallel()
	out := goList(t, "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./cmd/nanoos")
	lines := strings.Fields(string(out))
	slices.Sort(lines)
	got := strings.Join(lines, "\n") + "\n"
	const golden = "docs/linked-packages.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("the packages linked into the binary changed; review, then run: go test . -update\n%s", d)
	}
}

// functionName finds `package.Function` or `package/file.go Function` in the
// architecture's walk through the code.
var functionName = regexp.MustCompile("`([a-z/]+)/([a-z_]+\\.go) ([A-Za-z.]+)`")

func TestTheArchitectureNamesFunctionsThatExist(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	found := functionName.FindAllStringSubmatch(string(doc), -1)
	if len(found) < 10 {
		t.Fatalf("docs/architecture.md names %d functions as `package/file.go Function`; the walk is gone", len(found))
	}
	for _, m := range found {
		dir := m[1]
		if !strings.HasPrefix(dir, "cmd/") {
			dir = "internal/" + dir
		}
		src, err := os.ReadFile(filepath.Join(dir, m[2]))
		if err != nil {
			t.Errorf("docs/architecture.md names %s/%s: %v", m[1], m[2], err)
			continue
		}
		name := m[3][strings.LastIndexByte(m[3], '.')+1:]
		if !regexp.MustCompile(`(?m)^func (\([^)]*\) )?` + name + `\(`).Match(src) {
			t.Errorf("docs/architecture.md names %s in %s/%s, which has no such function", m[3], m[1], m[2])
		}
	}
}

func parseRules(t *testing.T) map[string][]string {
	t.Helper()
	allowed := map[string][]string{}
	for line := range strings.Lines(importRules) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		left, right, ok := strings.Cut(line, "<")
		if !ok {
			t.Fatalf("bad import rule %q", line)
		}
		for _, importer := range splitNames(right) {
			allowed[importer] = append(allowed[importer], splitNames(left)...)
		}
	}
	return allowed
}

func splitNames(s string) []string {
	var names []string
	for n := range strings.SplitSeq(s, ",") {
		names = append(names, strings.TrimSpace(n))
	}
	return names
}

func shortName(importPath string) string {
	return strings.TrimPrefix(strings.TrimPrefix(importPath, module), "internal/")
}

func libraryOf(importPath string) string {
	for lib := range libraries {
		if importPath == lib || strings.HasPrefix(importPath, lib+"/") {
			return lib
		}
	}
	return ""
}

// ourPackages lists the packages of the module as built for Linux, its home.
func ourPackages(t *testing.T) []goPackage {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(string(goList(t, "-json=ImportPath,Dir,Name,GoFiles,Imports", "./internal/...", "./cmd/..."))))
	var packages []goPackage
	for {
		var p goPackage
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

func goList(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	out, err := cmd.Output()
	if err != nil {
		if ee, ok := errors.AsType[*exec.ExitError](err); ok {
			t.Fatalf("go list: %v\n%s", err, ee.Stderr)
		}
		t.Fatal(err)
	}
	return out
}

func walkGo(t *testing.T, root string, check func(path string, src []byte)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		check(path, src)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
