package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"tombolo/sim"
	"tombolo/sim/world"
)

func demoCommand() *cobra.Command {
	var o world.Options
	var check, verbose bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "A whole simulated region on this machine, to look at",
		Long: "Starts the region of Severn on loopback: two GP practices, an acute trust, a mental health trust, a community provider, a council and\n" +
			"an ambulance service, each speaking its real protocol, a node that joins them, a neighbouring region, and what stands for PDS and the\n" +
			"National Record Locator. Nobody in it is real.",
		Example: "  tombolo demo                       then open the address it prints\n  tombolo demo --people 500          with five hundred more people\n  tombolo demo --check               run the story once and say what was seen",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o.Logger, o.Neighbour, o.National, o.Version = newLogger(c.ErrOrStderr(), verbose), true, true, version
			if check {
				if !c.Flags().Changed("listen") {
					o.Listen = "127.0.0.1:0"
				}
				if !verbose {
					o.Logger = nil // the story provokes faults; their log lines would only alarm
				}
			}
			if o.Dir != "" { // a folder that the region file names is looked for beside that file, which lies in this one
				var err error
				if o.Dir, err = filepath.Abs(o.Dir); err != nil {
					return err
				}
			}
			out := c.OutOrStdout()
			fmt.Fprintln(out, "Starting the region of Severn …")
			w, err := world.Start(c.Context(), o)
			if err != nil {
				return err
			}
			defer w.Close()
			if check {
				if err := w.Check(c.Context(), out); err != nil {
					return err
				}
				fmt.Fprintln(out, "All well.")
				return nil
			}
			where(out, w)
			<-c.Context().Done()
			fmt.Fprintln(out, "\nStopping.")
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&o.Listen, "listen", "127.0.0.1:8080", "address of the web pages and the API, on loopback")
	f.Uint64Var(&o.Seed, "seed", 1, "which generated people")
	f.IntVar(&o.People, "people", 0, "how many generated people beside the named dozen")
	f.StringVar(&o.Dir, "data", "", "keep everything here (a temporary folder, removed at the end, if not given)")
	f.BoolVar(&check, "check", false, "run the story once, print what was joined, fail if a step fails")
	f.BoolVar(&verbose, "verbose", false, "log more than what needs acting on")
	return c
}

// where tells a new user where to look.
func where(out io.Writer, w *world.World) {
	fmt.Fprintf(out, `
Severn is up. Nobody in it is real.

  Record viewer     %[1]s/record
  Citizen's page    %[1]s/me
  Operators' desk   %[1]s/desk
  FHIR API          %[1]s/fhir/metadata
  Faults            %[1]s/sim

Sign in on any page as one of the people below; for the API send "Authorization: Bearer" and the token.

`, w.URL())
	t := tabwriter.NewWriter(out, 2, 4, 3, ' ', 0)
	fmt.Fprintln(t, "  who\trole\ttoken")
	for _, u := range w.Node.Access.Users() {
		fmt.Fprintf(t, "  %s\t%s\t%s\n", u.Name, u.Role, sim.TokenPrefix+u.ID)
	}
	fmt.Fprintln(t, "\n  patient\tNHS number\tshows")
	for _, p := range w.People {
		if p.Shows == "generated" {
			break
		}
		number := p.NHS
		if number == "" && p.CHI != "" {
			number = p.CHI + " (CHI)"
		}
		if number == "" {
			number = "(none)"
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\n", p.FullName(), number, p.Shows)
	}
	_ = t.Flush()
	main := w.Person("margaret")
	fmt.Fprintf(out, `
Try it:

  curl -s -H "Authorization: Bearer demo-doctor" -H "Content-Type: application/fhir+json" \
    -d '{"resourceType":"Parameters","parameter":[{"name":"identifier","valueString":"%s"}]}' %s/fhir/\$gather

The region file that this runs is %s. Stop with Ctrl-C.
`, main.NHS, w.URL(), filepath.Join(w.Dir(), "severn.yaml"))
	_ = os.Stdout.Sync()
}
