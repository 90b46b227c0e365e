package main

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"

	"github.com/spf13/cobra"

	"tombolo/audit"
	"tombolo/node"
)

func auditCommand() *cobra.Command {
	var regionFile, data, store string
	c := &cobra.Command{Use: "audit", Short: "Check the audit log, and see who looked"}
	c.PersistentFlags().StringVar(&regionFile, "region", "", "the region file")
	c.PersistentFlags().StringVar(&data, "data", "", "the data folder")
	c.PersistentFlags().StringVar(&store, "store", "", storeHelp)
	open := func(c *cobra.Command) (*node.Node, error) { return openNode(c, regionFile, data, store) }
	ask := func(c *cobra.Command, a node.AuditAsk) (node.Kept, error) {
		cfg, err := nodeConfig(c, regionFile, data, store)
		if err != nil {
			return node.Kept{}, err
		}
		a.By = operator()
		return node.AskAudit(c.Context(), cfg, a)
	}
	c.Long = "Verify, show and head work while a node runs: on an embedded store the node itself does it. Export and view read an embedded store\n" +
		"themselves, so its node has to be stopped for them; a database they read beside it."
	c.AddCommand(auditVerify(ask), auditShow(ask), auditHead(ask), auditExport(open), auditView(open))
	return c
}

// An asking has something asked of the audit log of the node that the flags name.
type asking func(*cobra.Command, node.AuditAsk) (node.Kept, error)

// nodeConfig is a node that is there, for a command that reads what it keeps.
func nodeConfig(c *cobra.Command, regionFile, data, store string) (node.Config, error) {
	if data == "" && store == "" {
		return node.Config{}, usagef("whose? Give --data DIR, or --store postgres://…")
	}
	if _, err := os.Stat(filepath.Join(data, "store")); store == "" && err != nil {
		return node.Config{}, fmt.Errorf("there is no node's data in %s: give the --data that serve runs with", data)
	}
	r, folder, err := mustRegion(c, regionFile)
	if err != nil {
		return node.Config{}, err
	}
	return node.Config{Region: r, Folder: folder, Data: data, Store: store, Version: version, Logger: newLogger(c.ErrOrStderr(), false)}, nil
}

// openNode opens it, where an embedded store is not a running node's own.
func openNode(c *cobra.Command, regionFile, data, store string) (*node.Node, error) {
	cfg, err := nodeConfig(c, regionFile, data, store)
	if err != nil {
		return nil, err
	}
	if store == "" && node.Runs(data) {
		return nil, fmt.Errorf("a node runs on %s, and this command reads an embedded store itself: stop the node first, or restore a backup of it (tombolo store backup) elsewhere and give that as --data", data)
	}
	return node.New(c.Context(), cfg)
}

func auditVerify(ask asking) *cobra.Command {
	var files []string
	var a node.AuditAsk
	c := &cobra.Command{
		Use: "verify", Short: "Check that no audit entry was changed, removed, added or reordered",
		Long: "Reads the whole audit log and says where it is first not as it was written. By itself it cannot see that the log's end was cut off, or\n" +
			"that all of it was written anew with this node's key: for that it is held to heads that somebody else kept. Give the files that\n" +
			"neighbours keep of this node (their witness/NAME.heads), or single heads as NUMBER:HASH. The heads this node wrote itself are used too.",
		Example: "  tombolo audit verify --region region.yaml --data data\n  tombolo audit verify --region region.yaml --data data --heads from-wye/severn.heads",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			for _, h := range a.Heads {
				if _, err := audit.ParseHead(h); err != nil {
					return usageError{err}
				}
			}
			a.Do, a.Files = "verify", nil
			for _, name := range files {
				content, err := os.ReadFile(name)
				if err != nil {
					return err
				}
				a.Files = append(a.Files, node.HeadsFile{Name: name, Content: content})
			}
			k, err := ask(c, a)
			if err != nil {
				return err
			}
			fmt.Fprint(c.OutOrStdout(), k.Text)
			if !k.OK {
				return fmt.Errorf("the audit log is not as it was written")
			}
			return nil
		},
	}
	c.Flags().StringArrayVar(&files, "heads", nil, "a file of signed heads that somebody else kept (may be given again)")
	c.Flags().StringArrayVar(&a.Heads, "head", nil, "a head as NUMBER:HASH (may be given again)")
	c.Flags().StringVar(&a.Key, "key", "", "the public key that the heads must be signed with, as whoever kept them wrote it down (this node's own if not given)")
	return c
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

func auditShow(ask asking) *cobra.Command {
	var person string
	show := &cobra.Command{
		Use: "show", Short: "Who looked at a person's record, when and why",
		Long:    "That it was asked is itself recorded, and is the last line.",
		Example: "  tombolo audit show --region region.yaml --data data --person 3k9…",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if person == "" {
				return usagef("whose? Give --person ID, the id in the record's address")
			}
			if err := noNumber(person); err != nil {
				return err
			}
			k, err := ask(c, node.AuditAsk{Do: "show", Person: person})
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(c.OutOrStdout(), k.Text)
			return err
		},
	}
	show.Flags().StringVar(&person, "person", "", "the person's id on this node")
	return show
}
