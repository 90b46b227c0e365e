package main

import (
	"cmp"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/node"
	"tombolo/policy"
	"tombolo/region"
)

func policyCommand() *cobra.Command {
	c := &cobra.Command{Use: "policy", Short: "Who may see what, by which agreement, and what a change would open"}
	c.AddCommand(policyExplain(), policySimulate(), policyFlows(), policyStages())
	return c
}

// dayOf reads --on: the end of that day, but the present day up to now.
func dayOf(s string) (time.Time, error) {
	now := time.Now()
	if s == "" || s == now.In(fhir.London).Format(time.DateOnly) {
		return now, nil
	}
	d, err := time.ParseInLocation(time.DateOnly, s, fhir.London)
	if err != nil {
		return now, usagef("--on is a day, written year-month-day, such as 2026-05-01")
	}
	return d.AddDate(0, 0, 1).Add(-time.Second), nil
}

func policyExplain() *cobra.Command {
	var regionFile, data, store, as, person, on, purpose string
	var headings []string
	var refused bool
	c := &cobra.Command{
		Use: "explain", Short: "Who could see what of a person's record on a day, and by which agreement",
		Long: "Decides again, as it would have been decided on the day, and says why. With --as for one user, with the relationships that are known now;\n" +
			"without it for every role at every organisation. The person is named by their id on this node, or with --person - by an identifier on\n" +
			"standard input (system|value, or an NHS number): a person's number does not belong on a command line. That it was asked is in the audit log.\n" +
			"It works while a node runs: on an embedded store the node itself answers, by the region file that is in force there.",
		Example: "  tombolo policy explain --region region.yaml --data data --as doctor --person 3k9…\n" +
			"  tombolo policy explain --region region.yaml --data data --person - --on 2026-05-01 --heading care-plans",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if person == "" {
				return usagef("whose record? Give --person ID, the id in the record's address, or --person - and an identifier on standard input")
			}
			if _, err := fhir.ParseNHSNumber(person); err == nil {
				return usagef("that is an NHS number, which does not belong on a command line: give --person - and the number on standard input")
			}
			ask := node.ExplainAsk{By: operator(), Person: person, User: as, Refused: refused}
			var err error
			if ask.On, err = dayOf(on); err != nil {
				return err
			}
			if ask.On.After(time.Now()) {
				return usagef("%s is still to come: what a region file opens on a later day, tombolo policy simulate tells", on)
			}
			if purpose != "" {
				var ok bool
				if ask.Purpose, ok = policy.ParsePurpose(purpose); !ok {
					return usagef("%q is not a purpose: %s", purpose, strings.Join(region.Purposes, ", "))
				}
			}
			for _, h := range headings {
				if !dataset.Heading(h).Valid() {
					return usagef("%q is not a heading of the data set: those are %s", h, headingList())
				}
				ask.Headings = append(ask.Headings, dataset.Heading(h))
			}
			if person == "-" {
				id, err := readIdentifier(c.InOrStdin(), "-")
				if err != nil {
					return err
				}
				ask.Person, ask.Identifier = "", &id
			}
			cfg, err := nodeConfig(c, regionFile, data, store)
			if err != nil {
				return err
			}
			k, err := node.ExplainRegion(c.Context(), cfg, ask)
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(c.OutOrStdout(), k.Text)
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&regionFile, "region", "", "the region file")
	f.StringVar(&data, "data", "", "the data folder")
	f.StringVar(&store, "store", "", storeHelp)
	f.StringVar(&as, "as", "", "a user of the region file; every role at every organisation if not given")
	f.StringVar(&person, "person", "", "the person's id on this node, or - for an identifier on standard input")
	f.StringVar(&on, "on", "", "the day, such as 2026-05-01; now if not given")
	f.StringVar(&purpose, "purpose", "", "what for; what the role mostly asks for if not given")
	f.StringArrayVar(&headings, "heading", nil, "only this heading (may be given again)")
	f.BoolVar(&refused, "refused", false, "list what is refused too, without --as")
	return c
}

// headingList is what --heading may be.
func headingList() string {
	var names []string
	for _, h := range dataset.AllHeadings() {
		names = append(names, string(h))
	}
	return strings.Join(names, ", ")
}

func policySimulate() *cobra.Command {
	var on string
	c := &cobra.Command{
		Use: "simulate OLD NEW", Short: "What a changed region file would open and close, before it is applied",
		Long: "Compares what two region files open to every role at every organisation, on the day and on each later day on which an agreement of\n" +
			"either begins or ends. What a person has chosen is beside the file, and closes more. Prints the changed lines first, then what follows.",
		Example: "  tombolo policy simulate region.yaml region-new.yaml",
		Args:    cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			at, err := dayOf(on)
			if err != nil {
				return err
			}
			was, _, err := mustRegion(c, args[0])
			if err != nil {
				return err
			}
			is, _, err := mustRegion(c, args[1])
			if err != nil {
				return err
			}
			out := c.OutOrStdout()
			diff := policy.Diff(was, is)
			for _, l := range policy.DiffWords(was, is) {
				fmt.Fprintln(out, l)
			}
			if len(diff) > 0 && (is.Policy.Version == "" || is.Policy.Version == was.Policy.Version || is.Policy.Author == "") {
				fmt.Fprintf(out, "A running node will not take this: give it a policy.version other than %q, and a policy.author.\n", was.Policy.Version)
			} else if len(diff) > 0 {
				fmt.Fprintf(out, "Version %s, for which %s answers: %s\n", is.Policy.Version, is.Policy.Author, is.Policy.Reason)
			}
			changes := policy.Compare(was, is, at)
			for _, ch := range changes {
				fmt.Fprintln(out, ch.Words(is, was))
			}
			believing := policy.Believing(was, is)
			for _, text := range believing {
				fmt.Fprintln(out, text)
			}
			if len(changes)+len(believing) == 0 {
				fmt.Fprintln(out, "Nothing opens and nothing closes.")
			}
			return nil
		},
	}
	c.Flags().StringVar(&on, "on", "", "the day, such as 2026-05-01; today if not given")
	return c
}

func policyFlows() *cobra.Command {
	return &cobra.Command{
		Use: "flows FILE", Short: "The region's data flows as a table for a data protection impact assessment",
		Example: "  tombolo policy flows region.yaml > flows.md",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			r, _, err := mustRegion(c, args[0])
			if err != nil {
				return err
			}
			return policy.WriteFlows(c.OutOrStdout(), r, time.Now())
		},
	}
}

func policyStages() *cobra.Command {
	var on string
	c := &cobra.Command{
		Use: "stages FILE", Short: "How far the release of each system's units and headings has come, and who signed it off",
		Long: "Lists what of each system is switched on for whom: off, testers, organisations or all, since when, and under which clinical-safety\n" +
			"sign-off. Of stages that speak of the same data the most specific counts. docs/federation.md says what a unit is.",
		Example: "  tombolo policy stages region.yaml\n  tombolo policy stages region.yaml --on 2026-06-01",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			at := time.Now()
			if on != "" {
				var err error
				if at, err = time.ParseInLocation(time.DateOnly, on, fhir.London); err != nil {
					return usagef("--on is a day, written year-month-day, such as 2026-05-01")
				}
			}
			r, _, err := mustRegion(c, args[0])
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "SYSTEM\tUNITS\tHEADINGS\tRELEASED TO\tTESTERS\tSINCE\tSTATE\tSIGNED OFF BY")
			for _, l := range policy.StageLines(r, at) {
				headings := make([]string, len(l.Headings))
				for i, h := range l.Headings {
					headings[i] = string(h)
				}
				since := "-"
				if !l.From.IsZero() {
					since = l.From.Format(time.DateOnly)
				}
				fmt.Fprintln(w, strings.Join([]string{l.System, cmp.Or(strings.Join(l.Units, ", "), "every"), cmp.Or(strings.Join(headings, ", "), "every"), l.To, cmp.Or(l.Testers, "-"), since, l.State, cmp.Or(l.Signed, "-")}, "\t"))
			}
			return w.Flush()
		},
	}
	c.Flags().StringVar(&on, "on", "", "the day, such as 2026-05-01; today if not given")
	return c
}
