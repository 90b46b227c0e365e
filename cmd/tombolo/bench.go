package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"tombolo/sim/bench"
)

func benchCommand() *cobra.Command {
	var o bench.Options
	var profiles string
	c := &cobra.Command{
		Use:   "bench [WORKLOAD…]",
		Short: "Measure this machine: the workloads of docs/performance.md",
		Long: "Runs workloads against a real node on a real disk and writes one JSON object a line to stdout, and the same for people to stderr.\n" +
			"The workloads:\n\n" + workloadList() + "\nThe store's table has a command of its own, tombolo bench store.",
		Example:   "  tombolo bench mllp\n  tombolo bench mllp --count 100000 --connections 32 --dir /var/lib/bench\n  tombolo bench mllp --profile prof/     and then: go tool pprof prof/mllp.cpu",
		ValidArgs: bench.Names(),
		RunE: func(c *cobra.Command, names []string) error {
			if len(names) == 0 {
				names = bench.Names()
			}
			for _, name := range names {
				if !slices.Contains(bench.Names(), name) {
					return usagef("there is no workload %q: there are %s", name, strings.Join(bench.Names(), ", "))
				}
			}
			o.Told = func(format string, args ...any) { fmt.Fprintf(c.ErrOrStderr(), "  "+format+" …\n", args...) }
			out := json.NewEncoder(c.OutOrStdout())
			for _, name := range names {
				run := o
				if o.Dir != "" && len(names) > 1 {
					run.Dir = filepath.Join(o.Dir, name)
				}
				if profiles != "" {
					run.Measure = func() func() { return profile(profiles, name) }
				}
				r, err := bench.Run(c.Context(), name, run)
				if err != nil {
					return fmt.Errorf("workload %s: %w", name, err)
				}
				fmt.Fprintln(c.ErrOrStderr(), r)
				if err := out.Encode(r); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.AddCommand(benchStoreCommand(), benchAtRestCommand())
	f := c.Flags()
	f.IntVar(&o.Count, "count", 0, "how many things are done (each workload has its own usual number)")
	f.IntVar(&o.Connections, "connections", 8, "how many at a time")
	f.Uint64Var(&o.Seed, "seed", 1, "which generated people")
	f.StringVar(&o.Dir, "dir", "", "an empty folder on the disk to be measured (a temporary one, removed afterwards, if not given)")
	f.StringVar(&profiles, "profile", "", "write processor and allocation profiles of what is measured into this folder")
	return c
}

func workloadList() string {
	var b strings.Builder
	for _, w := range bench.Workloads {
		fmt.Fprintf(&b, "  %-12s %s\n", w.Name, w.About)
	}
	return b.String()
}

// profile takes profiles until the function that it returns is called. What it cannot write it leaves out: the figures matter more.
func profile(dir, name string) (done func()) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return func() {}
	}
	cpu, err := os.Create(filepath.Join(dir, name+".cpu"))
	if err != nil || pprof.StartCPUProfile(cpu) != nil {
		return func() {}
	}
	return func() {
		pprof.StopCPUProfile()
		_ = cpu.Close()
		if f, err := os.Create(filepath.Join(dir, name+".allocs")); err == nil {
			_ = pprof.Lookup("allocs").WriteTo(f, 0)
			_ = f.Close()
		}
	}
}
