package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"tombolo/connector"
	"tombolo/connector/hl7v2"
	"tombolo/node"
	"tombolo/region"
)

func hl7Command() *cobra.Command {
	c := &cobra.Command{
		Use:   "hl7",
		Short: "Take on a hospital's HL7 v2: try a message, test a dialect, see what is not mapped",
		Long: "Each trust speaks HL7 v2 in its own way, even with the same product. What differs is a file, named as mapping: of its system in the\n" +
			"region file; docs/hl7v2-mapping.md is its language. These commands show what a message gives, and what is left over.",
		Example: "  tombolo hl7 try --region region.yaml --feed rx1-pas admission.hl7\n  tombolo hl7 test testdata/\n  tombolo hl7 gaps --region region.yaml --data data --feed rx1-pas",
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(hl7Try(), hl7Test(), hl7Gaps(), hl7Write(), hl7Send())
	return c
}

// A feedFlag is which feed of which region file.
type feedFlag struct{ region, id string }

func (f *feedFlag) on(c *cobra.Command) {
	c.Flags().StringVar(&f.region, "region", "", "the region file")
	c.Flags().StringVar(&f.id, "feed", "", "id of the hl7v2 system in the region file")
}

// options are the feed's settings and dialect.
func (f *feedFlag) options(c *cobra.Command) (hl7v2.Options, *region.Region, string, error) {
	if f.id == "" {
		return hl7v2.Options{}, nil, "", usagef("which feed? Give --feed ID")
	}
	r, folder, err := mustRegion(c, f.region)
	if err != nil {
		return hl7v2.Options{}, nil, "", err
	}
	s, ok := r.System(f.id)
	if !ok || s.Connector != "hl7v2" {
		var feeds []string
		for _, s := range r.Systems {
			if s.Connector == "hl7v2" {
				feeds = append(feeds, s.ID)
			}
		}
		return hl7v2.Options{}, nil, "", usagef("%q is not an hl7v2 system of the region file: it has %s", f.id, cmp.Or(strings.Join(feeds, ", "), "none"))
	}
	o, err := node.HL7Options(s, folder)
	return o, r, folder, err
}

func hl7Try() *cobra.Command {
	var feed feedFlag
	var brief bool
	c := &cobra.Command{
		Use:   "try --region FILE --feed ID FILE…",
		Short: "Show each step from a message to the record: what was read, what was made, what was left and why",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, files []string) error {
			o, _, _, err := feed.options(c)
			if err != nil {
				return err
			}
			refused := 0
			for _, file := range files {
				data, err := os.ReadFile(file)
				if err != nil {
					return err
				}
				n := 0
				for a := range hl7v2.Try(data, o) {
					n++
					fmt.Fprintf(c.OutOrStdout(), "== %s, message %d\n", filepath.Base(file), n)
					refused += tell(c.OutOrStdout(), a, brief)
				}
				if n == 0 {
					fmt.Fprintf(c.OutOrStdout(), "== %s: no message is in it\n", filepath.Base(file))
				}
			}
			if refused > 0 {
				return fmt.Errorf("%d message(s) would be refused, and kept", refused)
			}
			return nil
		},
	}
	feed.on(c)
	c.Flags().BoolVar(&brief, "brief", false, "leave out step 1, what was read")
	return c
}

// tell prints one message's way, and says whether it was refused.
func tell(w io.Writer, a hl7v2.Attempt, brief bool) (refused int) {
	if a.Message != nil && !brief {
		fmt.Fprintln(w, "\n1. What was read")
		for l := range a.Message.Leaves() {
			fmt.Fprintf(w, "   %-16s %s\n", l.Place, short(l.Text))
		}
	}
	fmt.Fprintln(w, "\n2. What was made of it")
	var why []string
	for _, d := range a.Deliveries {
		if d.Rejected != nil {
			refused = 1
			fmt.Fprintf(w, "   nothing: %s\n", d.Rejected.Error())
		}
		if d.Map != "" {
			fmt.Fprintf(w, "   by %s, of patient %s, in order %s\n", d.Map, cmp.Or(d.Patient, "nobody"), cmp.Or(d.Order, "of arrival"))
		}
		for _, r := range d.Content {
			var b bytes.Buffer
			if json.Indent(&b, r.Raw(), "   ", "  ") == nil {
				fmt.Fprintf(w, "   %s\n", b.String())
			}
			told(w, "cleared", d.Cleared[r.Ref()])
			told(w, "only assumed", d.Assumed[r.Ref()])
		}
		for _, ref := range d.Delete {
			fmt.Fprintf(w, "   %s is taken back\n", ref)
		}
		for _, was := range slices.Sorted(maps.Keys(d.Renamed)) {
			fmt.Fprintf(w, "   %s, and what is under it, is %s now\n", was, d.Renamed[was])
		}
		for _, i := range d.Issues {
			why = append(why, i.Error())
		}
	}
	fmt.Fprintln(w, "\n3. What was left, kept in the raw message only")
	for _, l := range a.Unread {
		fmt.Fprintf(w, "   %-16s %-40s no map takes it\n", l.Place, short(l.Text))
	}
	for _, y := range why {
		fmt.Fprintf(w, "   %s\n", y)
	}
	if len(a.Unread)+len(why) == 0 {
		fmt.Fprintln(w, "   nothing")
	}
	fmt.Fprintln(w, "\n4. What its sender is told, once it is stored")
	for _, reply := range a.Replies {
		for _, line := range strings.FieldsFunc(string(reply), func(r rune) bool { return r == '\r' }) {
			if !strings.HasPrefix(line, "MSH") {
				fmt.Fprintf(w, "   %s\n", line)
			}
		}
	}
	if len(a.Replies) == 0 {
		fmt.Fprintln(w, "   nothing: it asks for no acknowledgement")
	}
	fmt.Fprintln(w)
	return refused
}

func told(w io.Writer, what string, elements []string) {
	if len(elements) > 0 {
		fmt.Fprintf(w, "   (%s: %s)\n", what, strings.Join(elements, ", "))
	}
}

func short(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > 100 {
		return string(r[:97]) + "…"
	}
	return s
}

func hl7Test() *cobra.Command {
	var feed feedFlag
	var update bool
	c := &cobra.Command{
		Use:   "test [--region FILE --feed ID] DIR",
		Short: "Hold a dialect to its pairs: each x.hl7 in the folder gives what x.json beside it says",
		Long: "Maps each .hl7 file of the folder and compares with the .json file of the same name; --update writes those files anew, to be read and kept.\n" +
			"The dialect is that of --feed, else mapping.yaml in the folder, else none.",
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			o, err := testOptions(c, feed, args[0])
			if err != nil {
				return err
			}
			files, err := filepath.Glob(filepath.Join(args[0], "*.hl7"))
			if err != nil || len(files) == 0 {
				return fmt.Errorf("no .hl7 files are in %s", args[0])
			}
			bad := 0
			for _, file := range files {
				problem, err := testPair(file, o, update)
				if err != nil {
					return err
				}
				if problem == "" {
					fmt.Fprintf(c.OutOrStdout(), "ok    %s\n", filepath.Base(file))
					continue
				}
				bad++
				fmt.Fprintf(c.OutOrStdout(), "WRONG %s: %s\n", filepath.Base(file), problem)
			}
			if bad > 0 {
				return fmt.Errorf("%d of %d pairs differ", bad, len(files))
			}
			return nil
		},
	}
	feed.on(c)
	c.Flags().BoolVar(&update, "update", false, "write the .json files anew")
	return c
}

func testOptions(c *cobra.Command, feed feedFlag, dir string) (hl7v2.Options, error) {
	if feed.id != "" || feed.region != "" {
		o, _, _, err := feed.options(c)
		return o, err
	}
	o := hl7v2.Options{Source: "test", Organisation: "TEST"}
	if _, err := os.Stat(filepath.Join(dir, "mapping.yaml")); err == nil {
		o.Mapping, err = hl7v2.LoadMapping("mapping.yaml", dir)
		return o, err
	}
	return o, nil
}

// testPair says how a message differs from its pair, "" if it does not.
func testPair(file string, o hl7v2.Options, update bool) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	var made []connector.Delivery
	for d := range hl7v2.Deliveries(data, o) {
		made = append(made, d)
	}
	got := hl7v2.Golden(made)
	pair := strings.TrimSuffix(file, ".hl7") + ".json"
	if update {
		return "", os.WriteFile(pair, got, 0o644)
	}
	want, err := os.ReadFile(pair)
	if errors.Is(err, os.ErrNotExist) {
		return "it has no .json beside it; make it with --update, and read it", nil
	}
	if err != nil {
		return "", err
	}
	g, w := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(g), len(w)) {
		line := func(l []string) string {
			if i < len(l) {
				return strings.TrimSpace(l[i])
			}
			return "(nothing)"
		}
		if line(g) != line(w) {
			return fmt.Sprintf("line %d is\n        %s\n      and should be\n        %s", i+1, line(g), line(w)), nil
		}
	}
	return "", nil
}

func hl7Gaps() *cobra.Command {
	var feed feedFlag
	var data, store string
	c := &cobra.Command{
		Use:   "gaps --region FILE --data DIR --feed ID",
		Short: "List what a feed has sent that is kept and not mapped, counted",
		Long: "List what a feed has sent that is kept and not mapped, counted. The embedded store is one process's at a time: while the node runs, the feed's page on\n" +
			"the operators' desk (/desk/feeds/ID) shows the same of a sample.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o, r, folder, err := feed.options(c)
			if err != nil {
				return err
			}
			if data == "" && store == "" {
				return usagef("give --data DIR (or --store postgres://…), where what was sent is kept")
			}
			if store == "" {
				if _, err := os.Stat(data); err != nil {
					return fmt.Errorf("nothing is kept there: %w", err)
				}
			}
			n, err := node.New(c.Context(), node.Config{Region: r, Folder: folder, Data: data, Store: store, Logger: newLogger(c.ErrOrStderr(), false)})
			if err != nil {
				return err
			}
			defer n.Close()
			g := hl7v2.NewGaps()
			for raw, err := range n.Intake.Kept(c.Context(), feed.id) {
				if err != nil {
					return err
				}
				g.Add(raw, o)
			}
			printGaps(c.OutOrStdout(), g)
			return nil
		},
	}
	feed.on(c)
	c.Flags().StringVar(&data, "data", "", "the data folder")
	c.Flags().StringVar(&store, "store", "", "postgres://… for a database that nodes share")
	return c
}

func printGaps(w io.Writer, g *hl7v2.Gaps) {
	fmt.Fprintf(w, "%d messages are kept. Of each line below, in how many of them it is so.\n", g.Messages)
	for _, part := range []struct {
		title  string
		counts map[string]int
	}{{"Refused, and kept as they came", g.Refused}, {"Fields of which no map takes anything", g.Fields}, {"Repetitions and components that no map takes, of fields of which one takes others", g.Parts}, {"What was told of", g.Notes}} {
		if len(part.counts) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n%s:\n", part.title)
		keys := make([]string, 0, len(part.counts))
		for k := range part.counts {
			keys = append(keys, k)
		}
		slices.SortFunc(keys, func(a, b string) int { return cmp.Or(part.counts[b]-part.counts[a], strings.Compare(a, b)) })
		for _, k := range keys {
			fmt.Fprintf(w, "%7d  %s\n", part.counts[k], k)
		}
	}
}
