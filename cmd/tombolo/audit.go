package main

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"tombolo/audit"
	"tombolo/fhir"
	"tombolo/node"
)

func auditCommand() *cobra.Command {
	var regionFile, data, store string
	c := &cobra.Command{Use: "audit", Short: "Check the audit log, and see who looked"}
	c.PersistentFlags().StringVar(&regionFile, "region", "", "the region file")
	c.PersistentFlags().StringVar(&data, "data", "", "the data folder")
	c.PersistentFlags().StringVar(&store, "store", "", storeHelp)
	open := func(c *cobra.Command) (*node.Node, error) { return openNode(c, regionFile, data, store) }
	c.AddCommand(auditVerify(open), auditShow(open), auditHead(open), auditExport(open), auditView(open))
	return c
}

// openNode opens a node that is there, for a command that reads what it keeps.
func openNode(c *cobra.Command, regionFile, data, store string) (*node.Node, error) {
	if data == "" && store == "" {
		return nil, usagef("whose? Give --data DIR, or --store postgres://…")
	}
	if _, err := os.Stat(filepath.Join(data, "store")); store == "" && err != nil {
		return nil, fmt.Errorf("there is no node's data in %s: give the --data that serve runs with", data)
	}
	r, folder, err := mustRegion(c, regionFile)
	if err != nil {
		return nil, err
	}
	return node.New(c.Context(), node.Config{Region: r, Folder: folder, Data: data, Store: store, Logger: newLogger(c.ErrOrStderr(), false)})
}

func auditVerify(open func(*cobra.Command) (*node.Node, error)) *cobra.Command {
	var files, heads []string
	var key string
	c := &cobra.Command{
		Use: "verify", Short: "Check that no audit entry was changed, removed, added or reordered",
		Long: "Reads the whole audit log and says where it is first not as it was written. By itself it cannot see that the log's end was cut off, or\n" +
			"that all of it was written anew with this node's key: for that it is held to heads that somebody else kept. Give the files that\n" +
			"neighbours keep of this node (their witness/NAME.heads), or single heads as NUMBER:HASH. The heads this node wrote itself are used too.",
		Example: "  tombolo audit verify --region region.yaml --data data\n  tombolo audit verify --region region.yaml --data data --heads from-wye/severn.heads",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			n, err := open(c)
			if err != nil {
				return err
			}
			defer n.Close()
			expected, err := publishedHeads(n, key, files, heads)
			if err != nil {
				return err
			}
			rep, err := n.Audit.Verify(c.Context(), expected...)
			if err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), rep)
			fmt.Fprintf(c.OutOrStdout(), "held to %d published heads\n", len(expected))
			if !rep.OK() {
				return fmt.Errorf("the audit log is not as it was written")
			}
			return nil
		},
	}
	c.Flags().StringArrayVar(&files, "heads", nil, "a file of signed heads that somebody else kept (may be given again)")
	c.Flags().StringArrayVar(&heads, "head", nil, "a head as NUMBER:HASH (may be given again)")
	c.Flags().StringVar(&key, "key", "", "the public key that the heads must be signed with, as whoever kept them wrote it down (this node's own if not given)")
	return c
}

// publishedHeads are the heads that the log is held to: those given, and those that this node wrote itself.
func publishedHeads(n *node.Node, key string, files, heads []string) ([]audit.Head, error) {
	var out []audit.Head
	for _, h := range heads {
		head, err := audit.ParseHead(h)
		if err != nil {
			return nil, usageError{err}
		}
		out = append(out, head)
	}
	own := n.HeadsFile()
	if _, err := os.Stat(own); err == nil {
		files = append(files, own)
	}
	if len(files) > 0 && key == "" {
		k, err := n.Signer()
		if err != nil {
			return nil, err
		}
		key = k.Public
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		got, err := audit.ReadHeads(f, key)
		_ = f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		out = append(out, got...)
	}
	return out, nil
}

// operator is who runs a command, as the audit log names them.
func operator() audit.Agent {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, _ := os.Hostname()
	return audit.Agent{User: "command-line/" + name, Name: name + ", at the command line", Device: "tombolo " + version, Address: host}
}

func auditShow(open func(*cobra.Command) (*node.Node, error)) *cobra.Command {
	var person string
	show := &cobra.Command{
		Use: "show", Short: "Who looked at a person's record, when and why",
		Example: "  tombolo audit show --region region.yaml --data data --person 3k9…",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if person == "" {
				return usagef("whose? Give --person ID, the id in the record's address")
			}
			if err := noNumber(person); err != nil {
				return err
			}
			n, err := open(c)
			if err != nil {
				return err
			}
			defer n.Close()
			used := audit.Event{Kind: audit.Verified, Agent: operator(), PersonID: person, What: []string{"audit log: shown"}}
			if _, err := n.Audit.Append(c.Context(), used); err != nil {
				return err
			}
			count := 0
			for e, err := range n.Audit.Show(c.Context(), person, 0, 0) {
				if err != nil {
					return err
				}
				count++
				look, err := e.Summary()
				if err != nil {
					return err
				}
				fmt.Fprintf(c.OutOrStdout(), "%s  %-12s %s, %s, %s (%s)\n", look.At.In(fhir.London).Format(time.DateTime), look.Kind, look.Who, look.Role, look.Organisation, look.Purpose)
			}
			if count == 0 {
				fmt.Fprintln(c.OutOrStdout(), "Nobody has looked, or there is no such person.")
			}
			return nil
		},
	}
	show.Flags().StringVar(&person, "person", "", "the person's id on this node")
	return show
}
