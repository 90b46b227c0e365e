package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"
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

// dayOf reads --on; the whole of that day has passed in what is explained, the present day up to now.
func dayOf(s string) (time.Time, error) {
	now := time.Now()
	if s == "" {
		return now, nil
	}
	d, err := time.ParseInLocation(time.DateOnly, s, fhir.London)
	if err != nil {
		return now, usagef("--on is a day, such as 2026-05-01")
	}
	if end := d.AddDate(0, 0, 1).Add(-time.Second); end.Before(now) {
		return end, nil
	}
	return now, nil
}

func policyExplain() *cobra.Command {
	var regionFile, data, store, as, person, on, purpose string
	var headings []string
	var refused bool
	c := &cobra.Command{
		Use: "explain", Short: "Who could see what of a person's record on a day, and by which agreement",
		Long: "Decides again, as it would have been decided on the day, and says why. With --as for one user, with the relationships that are known now;\n" +
			"without it for every role at every organisation. The person is named by their id on this node, or with --person - by an identifier on\n" +
			"standard input (system|value, or an NHS number): a person's number does not belong on a command line. That it was asked is in the audit log.",
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
			ask := node.ExplainAsk{By: operator(), Person: person, User: as}
			var err error
			if ask.On, err = dayOf(on); err != nil {
				return err
			}
			if purpose != "" {
				var ok bool
				if ask.Purpose, ok = policy.ParsePurpose(purpose); !ok {
					return usagef("%q is not a purpose: %s", purpose, strings.Join(region.Purposes, ", "))
				}
			}
			for _, h := range headings {
				if !dataset.Heading(h).Valid() {
					return usagef("%q is not a heading of the data set", h)
				}
				ask.Headings = append(ask.Headings, dataset.Heading(h))
			}
			n, err := openNode(c, regionFile, data, store)
			if err != nil {
				return err
			}
			defer n.Close()
			if person == "-" {
				if ask.Person, err = personFrom(c, n); err != nil {
					return err
				}
			}
			e, err := n.Explain(c.Context(), ask)
			if err != nil {
				return err
			}
			return writeExplanation(c.OutOrStdout(), e, ask, refused)
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

// personFrom reads an identifier from standard input and finds whose it is.
func personFrom(c *cobra.Command, n *node.Node) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(c.InOrStdin(), 1<<10)).ReadString('\n')
	if err != nil && err != io.EOF {
		return "", err
	}
	id := fhir.Identifier{System: fhir.SystemNHSNumber, Value: strings.TrimSpace(line)}
	if system, value, ok := strings.Cut(id.Value, "|"); ok {
		id = fhir.Identifier{System: system, Value: value}
	}
	return n.PersonFor(c.Context(), operator(), id)
}

func writeExplanation(out io.Writer, e *node.Explanation, ask node.ExplainAsk, refused bool) error {
	chosen := map[int]string{0: "the person had made no choice about sharing", 1: "one choice of the person's stood"}[e.Choices]
	if chosen == "" {
		chosen = fmt.Sprintf("%d choices of the person's stood", e.Choices)
	}
	fmt.Fprintf(out, "On %s, %s. Decided by rules %s and agreements %s.\n", ask.On.In(fhir.London).Format("2 January 2006"), chosen, policy.Version, e.Agreed)
	if e.Opening != nil {
		may := "could not open the record"
		if e.Opening.Permit {
			may = "could open the record"
		}
		fmt.Fprintf(out, "%s %s: %s.\n", ask.User, may, because(*e.Opening))
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	shown := 0
	for _, g := range together(e.Rows) {
		if !g.Decision.Permit && ask.User == "" && !refused {
			continue
		}
		shown++
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", g.who+" of "+organisation(e.Region, g.Organisation), g.headings, "held by "+holder(e.Region, g.System)+madeBy(g.Unit), inWords(g.Decision))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if shown == 0 {
		fmt.Fprintln(out, "Nobody could see anything of it.")
	}
	for _, u := range e.Unsure {
		fmt.Fprintln(out, "Not known: "+u+".")
	}
	return nil
}

// A group is rows that were decided alike, on one line.
type group struct {
	node.Explained
	who, headings string
}

// together puts headings, and then roles, of which the same is said on one line.
func together(rows []node.Explained) []group {
	type key struct{ who, org, system, unit, said string }
	var order []key
	first := map[key]node.Explained{}
	headings := map[key][]string{}
	for _, r := range rows {
		info, _ := r.Role.Info()
		who := info.Name
		if r.Who != "" {
			who = r.Who
		}
		k := key{who, r.Organisation, r.System, r.Unit, inWords(r.Decision)}
		if _, ok := first[k]; !ok {
			first[k] = r
			order = append(order, k)
		}
		headings[k] = append(headings[k], r.Heading.Title())
	}
	var out []group
	at := map[string]int{}
	for _, k := range order {
		hs := strings.Join(headings[k], ", ")
		same := strings.Join([]string{k.org, k.system, k.unit, k.said, hs}, "\x00")
		if i, ok := at[same]; ok {
			out[i].who += ", " + k.who
			continue
		}
		at[same] = len(out)
		out = append(out, group{first[k], k.who, hs})
	}
	slices.SortStableFunc(out, func(a, b group) int { return strings.Compare(a.Organisation, b.Organisation) })
	return out
}

// organisation is one as people know it, with its code.
func organisation(r *region.Region, ods string) string {
	if o, ok := r.Organisation(ods); ok {
		return o.Name + " (" + ods + ")"
	}
	return ods
}

// holder is who holds what a system gives, with the system's id.
func holder(r *region.Region, id string) string {
	s, ok := r.System(id)
	if o, known := r.Organisation(s.Organisation); ok && known {
		return o.Name + " (" + id + ")"
	}
	return id
}

// madeBy is which unit made it, where that decides.
func madeBy(unit string) string {
	if unit == "" {
		return ""
	}
	return ", made by " + unit
}

func inWords(d policy.Decision) string {
	if d.Permit {
		return "permitted: " + because(d)
	}
	return "refused: " + because(d)
}

// because are a decision's reasons, and what had to be done with it.
func because(d policy.Decision) string {
	var words []string
	for _, r := range d.Reasons {
		words = append(words, r.Text)
	}
	for _, o := range d.Obligations {
		words = append(words, o.Words())
	}
	return strings.Join(words, "; ")
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
			if len(changes) == 0 {
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
					return usagef("--on is a day, such as 2026-05-01")
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
