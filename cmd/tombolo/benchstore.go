package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tombolo/node"
	"tombolo/sim/bench"
)

// A benchFile is what tombolo bench store writes: the figures with all that is needed to take them again.
type benchFile struct {
	Machine bench.Machine  `json:"machine"`
	Commit  string         `json:"commit"`
	Command string         `json:"command"`
	Engine  string         `json:"engine"`
	At      time.Time      `json:"at"`
	Load    string         `json:"load"` // of the machine, over 1, 5 and 15 minutes, when it began
	Results []bench.Result `json:"results"`
}

func benchStoreCommand() *cobra.Command {
	var o bench.StoreOptions
	var file, profiles string
	c := &cobra.Command{
		Use: "store", Short: "The table of the store: import, transactions, reads, searches, size, growth", Args: cobra.NoArgs,
		Long: "Imports bundles and NDJSON through the door, fills a store with a million resources, and takes every figure of the store's table in\n" +
			"docs/performance.md, the reading ones at a tenth of the size too, on either engine. The same seed gives the same data. Takes some minutes\n" +
			"and about 2 GiB of disk.",
		Example: "  tombolo bench store --synthea synthea/fhir --json store.json\n  tombolo bench store --store postgres://bench@/bench --json postgres.json\n" +
			"  tombolo bench store --resources 100000 --profile prof/",
		RunE: func(c *cobra.Command, _ []string) error {
			o.Told = func(format string, args ...any) { fmt.Fprintf(c.ErrOrStderr(), "  "+format+" …\n", args...) }
			if profiles != "" {
				o.MeasureNamed = func(name string) func() { return profile(profiles, name) }
			}
			out := benchFile{Commit: commit(), Command: "tombolo " + strings.Join(os.Args[1:], " "), Engine: "embedded", At: time.Now().UTC().Truncate(time.Second), Load: load()}
			if o.Store != "" {
				// The address may hold a password.
				out.Engine, out.Command = "postgres", strings.ReplaceAll(out.Command, o.Store, "postgres://…")
			}
			o.Elsewhere = atRestElsewhere
			lines := json.NewEncoder(c.OutOrStdout())
			err := bench.Store(c.Context(), o, func(r bench.Result) {
				fmt.Fprintln(c.ErrOrStderr(), r)
				out.Machine, out.Results = r.Machine, append(out.Results, r)
				if file == "" {
					_ = lines.Encode(r)
				}
			})
			if err != nil || file == "" {
				return err
			}
			text, err := json.MarshalIndent(out, "", "  ")
			if err != nil {
				return err
			}
			return os.WriteFile(file, append(text, '\n'), 0o644)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Store, "store", "", "measure a PostgreSQL database instead, in new schemas; drop them afterwards")
	f.StringVar(&o.Synthea, "synthea", "", "a folder of Synthea's transaction bundles; without it, records like them are made")
	f.StringVar(&o.Dir, "dir", "", "an empty folder on the disk to be measured (a temporary one, removed afterwards, if not given)")
	f.IntVar(&o.Resources, "resources", 1_000_000, "about how many resources the large store has")
	f.IntVar(&o.Import, "import", 100_000, "about how many are imported as bundles, and as NDJSON")
	f.StringSliceVar(&o.Only, "only", nil, "only these workloads, e.g. import-bundles,import-ndjson, or everything,mixed (as they are named in the results)")
	f.Uint64Var(&o.Seed, "seed", 1, "which made records")
	f.StringVar(&file, "json", "", "write machine, commit, command and figures into this file, instead of a JSON object a line to stdout")
	f.StringVar(&profiles, "profile", "", "write processor and allocation profiles of each workload into this folder")
	return c
}

// benchAtRestCommand is what tombolo bench store runs in a process of its own.
func benchAtRestCommand() *cobra.Command {
	var place node.Config
	c := &cobra.Command{Use: "at-rest", Hidden: true, Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		place.Store = os.Getenv(atRestStore)
		mib, err := bench.AtRest(c.Context(), place)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(c.OutOrStdout(), mib)
		return err
	}}
	c.Flags().StringVar(&place.Data, "data", "", "the data folder")
	return c
}

// atRestStore is the variable in which the address of a database, which may hold a password, goes to that process.
const atRestStore = "TOMBOLO_BENCH_STORE"

func atRestElsewhere(ctx context.Context, place node.Config) (float64, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	c := exec.CommandContext(ctx, self, "bench", "at-rest", "--data", place.Data)
	c.Env = append(os.Environ(), atRestStore+"="+place.Store)
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
}

// commit is that of the program, or of the folder it is run in.
func commit() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		revision, changed := "", ""
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				revision = s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				changed = " and changes"
			}
		}
		if revision != "" {
			return revision + changed
		}
	}
	out, err := exec.Command("git", "rev-parse", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

func load() string {
	data, _ := os.ReadFile("/proc/loadavg")
	words := strings.Fields(string(data))
	return strings.Join(words[:min(3, len(words))], " ")
}
