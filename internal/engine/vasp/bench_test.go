package vasp

import (
	"bytes"
	"io"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/nano-os/nanoos/internal/engine"
)

// benchSize is that of the files that the benchmarks read.
const benchSize = 100 << 20

// repeated is a file whose middle comes again and again, without being held in
// memory: what a long run leaves.
func repeated(head, step, tail []byte) io.Reader {
	parts := []io.Reader{bytes.NewReader(head)}
	for n := len(head); n < benchSize; n += len(step) {
		parts = append(parts, bytes.NewReader(step))
	}
	return io.MultiReader(append(parts, bytes.NewReader(tail))...)
}

func benchFile(b *testing.B, name, from, to string) (head, step, tail []byte) {
	path := filepath.Join(fixtureDir(b), name)
	files, err := engine.OpenRun(path)
	if err != nil {
		b.Fatal(err)
	}
	f, err := files.Open(strings.TrimSuffix(filepath.Base(name), ".gz"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		b.Fatal(err)
	}
	first, last := bytes.Index(data, []byte(from)), bytes.LastIndex(data, []byte(to))
	if first < 0 || last <= first {
		b.Fatalf("%s has no steps", name)
	}
	return data[:first], data[first:last], data[last:]
}

func benchmarkReader(b *testing.B, head, step, tail []byte, read func(io.Reader) error) {
	b.SetBytes(benchSize)
	var peak uint64
	for b.Loop() {
		src := &watched{r: repeated(head, step, tail)}
		if err := read(src); err != nil {
			b.Fatal(err)
		}
		peak = max(peak, src.peak)
	}
	b.ReportMetric(float64(peak)/(1<<20), "peak-MB")
}

// watched looks at the heap every 16 MB.
type watched struct {
	r       io.Reader
	n, next int
	peak    uint64
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if w.n += n; w.n >= w.next {
		w.next += 16 << 20
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		w.peak = max(w.peak, m.HeapInuse)
	}
	return n, err
}

func BenchmarkVasprun(b *testing.B) {
	for _, name := range []string{"magmom_ldau/vasprun.xml.gz", "md/vasprun.xml.gz"} {
		b.Run(filepath.Dir(name), func(b *testing.B) {
			head, step, tail := benchFile(b, name, " <calculation>", " <structure name=\"finalpos\"")
			benchmarkReader(b, head, step, tail, func(r io.Reader) error {
				_, _, err := readVasprun("vasprun.xml", r)
				return err
			})
		})
	}
}

func BenchmarkOUTCAR(b *testing.B) {
	head, step, tail := benchFile(b, "outcar_620/OUTCAR.gz", "--------------------------------------- Iteration      1(   1)", " General timing")
	benchmarkReader(b, head, step, tail, func(r io.Reader) error {
		_, err := readOUTCAR("OUTCAR", r)
		return err
	})
}
