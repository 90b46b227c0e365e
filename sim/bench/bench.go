// Package bench is the workloads of docs/performance.md: each brings up a real node on a real disk, speaks to it over real sockets,
// and says how much of something it did in a second and how long one of them took. The figures are for comparing; no test depends on them.
package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"tombolo/fhir"
	"tombolo/sim"
)

// Options say how large a workload is. Zero options work.
type Options struct {
	Dir         string // where its data lies, on the disk to be measured; a temporary folder, removed afterwards, if ""
	Count       int    // how many things are done; each workload has its own default
	Connections int    // at a time; 8 if 0
	Seed        uint64
	Told        func(format string, args ...any) // what goes on, for who waits; nil: silence
	// Measure is called around the part that counts, for a profiler; nil: nothing.
	Measure func() (done func())
	// MeasureNamed is Measure where several workloads run, told which.
	MeasureNamed func(workload string) (done func())
}

// A Result is what was measured.
type Result struct {
	Workload    string             `json:"workload"`
	What        string             `json:"what"` // what one of the things counted is
	Count       int                `json:"count"`
	Connections int                `json:"connections"`
	Seconds     float64            `json:"seconds"`
	PerSecond   float64            `json:"perSecond"`
	Millis      map[string]float64 `json:"ms,omitempty"` // p50, p90, p99, max of one
	CPUMicros   float64            `json:"cpuMicrosEach"`
	HeapMiB     float64            `json:"heapMiB"` // in use afterwards
	RSSMiB      float64            `json:"rssMiB"`  // the most there was
	DiskBytes   int64              `json:"diskBytes,omitempty"`
	More        map[string]float64 `json:"more,omitempty"`
	Machine     Machine            `json:"machine"`

	// Of the workloads of the store's table: what was got, and what must be reached and is aimed at; 0 where nothing is demanded.
	Got    float64 `json:"got,omitempty"`
	Unit   string  `json:"unit,omitempty"`
	Must   float64 `json:"must,omitempty"`
	Aim    float64 `json:"aim,omitempty"`
	Higher bool    `json:"higherIsBetter,omitempty"`
	Reads  bool    `json:"-"` // taken at a tenth of the size too
	Data   string  `json:"data,omitempty"`
}

// Reached says whether what must be reached was.
func (r Result) Reached() bool {
	if r.Higher {
		return r.Got >= r.Must
	}
	return r.Got <= r.Must || r.Must == 0
}

// A Machine is what it ran on.
type Machine struct {
	CPU   string `json:"cpu"`
	Cores int    `json:"cores"`
	Go    string `json:"go"`
	OS    string `json:"os"`
}

// A Workload can be run by its name.
type Workload struct {
	Name, About string
	run         func(ctx context.Context, o Options) (Result, error)
}

// Workloads are all there are.
var Workloads = []Workload{
	{"mllp", "HL7 v2 over MLLP: parsed, mapped, matched, stored, synced, followed, acknowledged", mllp},
	{"gather", "a person's record gathered live from every simulated source of the region", gatherRecord},
	{"read-person", "a stored person's whole record as a Bundle's bytes", readPerson},
	{"import", "the same messages from files, through the same door", importFiles},
}

// Run runs one workload.
func Run(ctx context.Context, name string, o Options) (Result, error) {
	i := slices.IndexFunc(Workloads, func(w Workload) bool { return w.Name == name })
	if i < 0 {
		return Result{}, fhir.Errorf(fhir.NotFound, "there is no workload %q: there are %s", name, strings.Join(Names(), ", "))
	}
	o.fill()
	if o.Dir == "" {
		dir, err := os.MkdirTemp("", "tombolo-bench-")
		if err != nil {
			return Result{}, err
		}
		defer os.RemoveAll(dir)
		o.Dir = dir
	}
	r, err := Workloads[i].run(ctx, o)
	r.Workload, r.Machine = name, machine()
	return r, err
}

func (o *Options) fill() {
	if o.Connections <= 0 {
		o.Connections = 8
	}
	if o.Told == nil {
		o.Told = func(string, ...any) {}
	}
	if o.Measure == nil {
		o.Measure = func() func() { return func() {} }
	}
}

// Names are those of the workloads.
func Names() []string {
	var out []string
	for _, w := range Workloads {
		out = append(out, w.Name)
	}
	return out
}

// A stopwatch measures time, processor time and memory of what is done between its making and result.
type stopwatch struct {
	began time.Time
	cpu   time.Duration
	done  func()
}

func start(o Options) *stopwatch {
	runtime.GC()
	return &stopwatch{done: o.Measure(), cpu: sim.ProcessorTime(), began: time.Now()}
}

// result is what was measured; took are the times of the single things, as far as they were taken.
func (s *stopwatch) result(what string, count, connections int, took []time.Duration) Result {
	elapsed, cpu := time.Since(s.began), sim.ProcessorTime()-s.cpu
	s.done()
	r := Result{What: what, Count: count, Connections: connections, Seconds: elapsed.Seconds(), PerSecond: float64(count) / elapsed.Seconds(),
		CPUMicros: float64(cpu.Microseconds()) / float64(max(count, 1))}
	if len(took) > 0 {
		slices.Sort(took)
		at := func(q float64) float64 {
			return float64(took[min(int(q*float64(len(took))), len(took)-1)].Microseconds()) / 1000
		}
		r.Millis = map[string]float64{"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p99.9": at(0.999), "max": at(1)}
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	r.HeapMiB = float64(m.HeapInuse) / (1 << 20)
	r.RSSMiB = float64(usage().Maxrss) / 1024 // in KiB on Linux
	return r
}

func usage() syscall.Rusage {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return u
}

func machine() Machine {
	m := Machine{Cores: runtime.GOMAXPROCS(0), Go: runtime.Version(), OS: runtime.GOOS + "/" + runtime.GOARCH}
	data, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	return m
}

// diskUse is the bytes that the files below a folder hold.
func diskUse(dir string) (total int64) {
	_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				total += info.Size()
			}
		}
		return nil
	})
	return total
}

// String is the result as a person reads it.
func (r Result) String() string {
	var b strings.Builder
	if r.Unit != "" {
		fmt.Fprintf(&b, "%-15s %.4g %s", r.Workload, r.Got, r.Unit)
		if r.Must > 0 {
			verdict := "REACHED"
			if !r.Reached() {
				verdict = "NOT REACHED"
			}
			fmt.Fprintf(&b, " (must %.4g, aim %.4g: %s)", r.Must, r.Aim, verdict)
		}
		b.WriteString("\n             ")
	}
	fmt.Fprintf(&b, "%-12s %d %s in %.2f s over %d connections: %.0f/s, %.0f µs of processor each", r.Workload, r.Count, r.What, r.Seconds, r.Connections, r.PerSecond, r.CPUMicros)
	if r.Millis != nil {
		fmt.Fprintf(&b, "\n             each took p50 %.2f ms, p90 %.2f, p99 %.2f, p99.9 %.2f, at most %.2f", r.Millis["p50"], r.Millis["p90"], r.Millis["p99"], r.Millis["p99.9"], r.Millis["max"])
	}
	fmt.Fprintf(&b, "\n             heap %.0f MiB afterwards, at most %.0f MiB resident", r.HeapMiB, r.RSSMiB)
	if r.DiskBytes > 0 {
		fmt.Fprintf(&b, ", %.1f MiB on disk", float64(r.DiskBytes)/(1<<20))
	}
	names := make([]string, 0, len(r.More))
	for k := range r.More {
		names = append(names, k)
	}
	slices.Sort(names)
	for _, k := range names {
		fmt.Fprintf(&b, "\n             %s %.4g", k, r.More[k])
	}
	return b.String()
}
