package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"tombolo/audit"
	"tombolo/node"
)

func auditHead(ask asking) *cobra.Command {
	return &cobra.Command{
		Use: "head", Short: "Print the audit log's signed head, to give to somebody who keeps it",
		Long:    "Prints how far the audit log goes and what it hashes to, signed with the key in the data folder, and the public key on stderr. Whoever keeps\nit can later show that the log was not rewritten: tombolo audit verify --heads.",
		Example: "  tombolo audit head --region region.yaml --data data >> /mnt/elsewhere/severn.heads",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			k, err := ask(c, node.AuditAsk{Do: "head"})
			if err != nil {
				return err
			}
			var public string
			if err := json.Unmarshal(k.Data, &public); err != nil {
				return err
			}
			fmt.Fprintf(c.ErrOrStderr(), "signed with %s\n", public)
			_, err = fmt.Fprint(c.OutOrStdout(), k.Text)
			return err
		},
	}
}

func auditExport(open func(*cobra.Command) (*node.Node, error)) *cobra.Command {
	var format, person, out string
	c := &cobra.Command{
		Use: "export", Short: "Write the audit log as FHIR AuditEvents or as CSV",
		Long:    "Writes every entry, or those about one person, oldest first: as NDJSON of FHIR AuditEvents, or as CSV in which no cell can become a formula.\nThat it was exported is itself recorded.",
		Example: "  tombolo audit export --region region.yaml --data data --out audit.ndjson\n  tombolo audit export --region region.yaml --data data --person 3k9… --format csv --out who-looked.csv",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if format != "ndjson" && format != "csv" {
				return usagef("there is no format %q: give ndjson or csv", format)
			}
			if err := noNumber(person); err != nil {
				return err
			}
			n, err := open(c)
			if err != nil {
				return err
			}
			defer n.Close()
			head, err := n.Audit.Head(c.Context())
			if err != nil {
				return err
			}
			event := audit.Event{Kind: audit.Export, Agent: operator(), PersonID: person, What: []string{"audit log: exported as " + format}}
			if _, err := n.Audit.Append(c.Context(), event); err != nil {
				return err
			}
			w := c.OutOrStdout()
			if out != "" {
				f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
				if err != nil {
					return err
				}
				defer func() {
					if cerr := f.Close(); err == nil {
						err = cerr
					}
				}()
				w = f
			}
			entries := n.Audit.All(c.Context(), 0, int(head.Seq))
			if person != "" {
				entries = n.Audit.Show(c.Context(), person, 0, 0)
			}
			if head.Seq == 0 {
				entries = func(func(audit.Entry, error) bool) {}
			}
			if format == "csv" {
				return audit.WriteCSV(w, entries)
			}
			for e, err := range entries {
				if err != nil {
					return err
				}
				if _, err := w.Write(append(e.Body, '\n')); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().StringVar(&format, "format", "ndjson", "ndjson or csv")
	c.Flags().StringVar(&person, "person", "", "only about this person: their id on this node")
	c.Flags().StringVar(&out, "out", "", "write to this new file, which only you may read (standard output if not given)")
	return c
}

func auditView(open func(*cobra.Command) (*node.Node, error)) *cobra.Command {
	var entry uint64
	var base, self string
	var indent bool
	c := &cobra.Command{
		Use: "view", Short: "Show again what an entry's disclosure showed, whatever has become of its sources",
		Long: "Puts a past view together again from what was kept of it: the same Bundle, byte for byte, as the API gave or would have given then. Its\n" +
			"addresses are those of --base and --self. That it was looked at is itself recorded.",
		Example: "  tombolo audit view --region region.yaml --data data --entry 4711",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if entry == 0 {
				return usagef("which entry? Give --entry N, the number behind audit- in the AuditEvent's id")
			}
			n, err := open(c)
			if err != nil {
				return err
			}
			defer n.Close()
			rec, err := n.Shown(c.Context(), operator(), audit.Seq(entry))
			if err != nil {
				return err
			}
			if self == "" {
				self = base + "/$gather"
			}
			return writeJSON(c.OutOrStdout(), rec.Bundle(base, self), indent)
		},
	}
	c.Flags().Uint64Var(&entry, "entry", 0, "the number of the entry")
	c.Flags().StringVar(&base, "base", "", "base URL of the API in the Bundle's addresses")
	c.Flags().StringVar(&self, "self", "", "the request's URL, for the Bundle's self link (BASE/$gather if not given)")
	c.Flags().BoolVar(&indent, "indent", false, "for reading: no longer byte for byte")
	return c
}

func writeJSON(w io.Writer, b []byte, indent bool) error {
	if !indent {
		_, err := w.Write(b)
		return err
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(json.RawMessage(b))
}
