package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"tombolo/fhir"
	"tombolo/node"
)

type probeFlags struct {
	region, data, store, as, from string
	tries                         int
	asJSON, show                  bool
}

func probeCommand() *cobra.Command {
	var f probeFlags
	c := &cobra.Command{
		Use: "probe [SYSTEM…]", Short: "Find out what each source can really give: which headings, how deep, how fast, how fresh",
		Long: "Asks sources that are asked live what they say they can do, and then, heading by heading and several times, about a test patient; of those\n" +
			"that send, counts what they have sent. What is found is kept, with nothing of any patient in it, shown on the desk as the region's scope,\n" +
			"and used: a source that was found not to give a heading is not asked for it. Without SYSTEM all sources of the region file are probed.\n" +
			"The test patients are those of the region file (probing: {patients: […], as: USER}), or the one in --identifier-from. That they are read\n" +
			"is in the audit log. It works while a node runs: on an embedded store the node itself does it. Exit code 1 if a SYSTEM answered nothing.",
		Example: "  tombolo probe --region region.yaml --data data\n" +
			"  tombolo probe --region region.yaml --data data --identifier-from test-patient.txt --as doctor m85001-gp\n" +
			"  tombolo probe --region region.yaml --data data --show --json",
		RunE: func(c *cobra.Command, args []string) error { return f.run(c, args) },
	}
	fl := c.Flags()
	fl.StringVar(&f.region, "region", "", "the region file")
	fl.StringVar(&f.data, "data", "", "the data folder")
	fl.StringVar(&f.store, "store", "", storeHelp)
	fl.StringVar(&f.as, "as", "", "the user of the region file as whom sources are asked, if not as it says")
	fl.StringVar(&f.from, "identifier-from", "", "a test patient, by the NHS number (or SYSTEM|VALUE) in this file, - for standard input: a number does not belong on a command line")
	fl.IntVar(&f.tries, "tries", 0, "how often each question is asked, if not as the region file says (3)")
	fl.BoolVar(&f.show, "show", false, "ask nobody: show what was last found")
	fl.BoolVar(&f.asJSON, "json", false, "say what was found as a JSON array")
	return c
}

func (f *probeFlags) run(c *cobra.Command, sources []string) error {
	if f.data == "" && f.store == "" {
		return usagef("whose? Give --data DIR, or --store postgres://…")
	}
	if f.tries < 0 || f.tries > 100 {
		return usagef("--tries is a number from 1 to 100")
	}
	for _, s := range sources {
		if err := noNumber(s); err != nil {
			return err
		}
	}
	ask := node.ProbeAsk{By: operator(), Sources: sources, As: f.as, Tries: f.tries, Show: f.show}
	if f.from != "" {
		id, err := readIdentifier(c.InOrStdin(), f.from)
		if err != nil {
			return err
		}
		ask.Patients = []fhir.Identifier{id}
	}
	r, folder, err := mustRegion(c, f.region)
	if err != nil {
		return err
	}
	if f.data != "" && f.store == "" { // before there is anything, feeds have sent nothing; what is asked live can be probed all the same
		if _, err := os.Stat(filepath.Dir(filepath.Clean(f.data))); err != nil {
			return err
		}
	}
	k, err := node.ProbeRegion(c.Context(), node.Config{Region: r, Folder: folder, Data: f.data, Store: f.store, Version: version, Logger: newLogger(c.ErrOrStderr(), false)}, ask)
	if err != nil {
		return err
	}
	if f.asJSON {
		fmt.Fprintf(c.OutOrStdout(), "%s\n", k.Data)
	} else {
		fmt.Fprint(c.OutOrStdout(), k.Text)
	}
	if !k.OK {
		return errors.New("a source that was to be probed answered nothing")
	}
	return nil
}
