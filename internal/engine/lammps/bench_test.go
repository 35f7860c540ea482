package lammps

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/nano-os/nanoos/internal/engine"
)

// longLog is a log of n rows.
func longLog(n int) []byte {
	var b strings.Builder
	b.WriteString(head + "units metal\nCreated 256 atoms\nrun 100000000\nPer MPI rank memory allocation (min/avg/max) = 3 | 3 | 3 Mbytes\nStep Temp E_pair E_mol TotEng Press \n")
	for i := range n {
		fmt.Fprintf(&b, "%8d    300.12345   -901.5436123            0    -896.4061234    9105.2345678 \n", i)
	}
	return []byte(b.String())
}

// longDump is a trajectory of frames of n atoms.
func longDump(frames, n int) []byte {
	var b strings.Builder
	for f := range frames {
		fmt.Fprintf(&b, "ITEM: TIMESTEP\n%d\nITEM: NUMBER OF ATOMS\n%d\nITEM: BOX BOUNDS pp pp pp\n0 100\n0 100\n0 100\nITEM: ATOMS id type x y z fx fy fz\n", f, n)
		for i := range n {
			fmt.Fprintf(&b, "%d 1 %d.125 50.25 7.5 0.125 -0.5 1e-05\n", i+1, i%100)
		}
	}
	return []byte(b.String())
}

func BenchmarkParseLog(b *testing.B) {
	files := fstest.MapFS{logName: {Data: longLog(100_000)}}
	b.SetBytes(int64(len(files[logName].Data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := New().Parse(engine.Run{Files: files}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadDump(b *testing.B) {
	files := fstest.MapFS{finalDump: {Data: longDump(1, 200_000)}}
	b.SetBytes(int64(len(files[finalDump].Data)))
	b.ReportAllocs()
	for b.Loop() {
		if s, whole := readDump(files, finalDump); s == nil || !whole {
			b.Fatal("no frame")
		}
	}
}

// heapAfter is the memory that is held while v is.
func heapAfter(v any) uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	runtime.KeepAlive(v)
	return m.HeapAlloc
}

func TestWhatIsKeptOfAnEndlessRunIsBounded(t *testing.T) {
	log := bytes.Replace(longLog(300_000), []byte("Created 256"), []byte("Created 300000"), 1)
	files := fstest.MapFS{logName: {Data: log}, finalDump: {Data: longDump(2, 300_000)}}
	before := heapAfter(nil)
	rec, err := readRecord(files)
	if err != nil {
		t.Fatal(err)
	}
	if grown := int64(heapAfter(rec)) - int64(before); grown > 4<<20 {
		t.Errorf("%d bytes of %d are kept", grown, len(files[logName].Data)+len(files[finalDump].Data))
	}
	if rec.rows() != 300_000 || rec.final.step != 1 || len(rec.final.sites) != 0 || rec.final.species[species{kind: 1}] != 300_000 {
		t.Errorf("%d rows, final %+v", rec.rows(), rec.final)
	}
}
