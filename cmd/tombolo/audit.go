package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"tombolo/fhir"
	"tombolo/node"
)

func auditCommand() *cobra.Command {
	var regionFile, data, store string
	c := &cobra.Command{Use: "audit", Short: "Check the audit chain, and see who looked"}
	c.PersistentFlags().StringVar(&regionFile, "region", "", "the region file")
	c.PersistentFlags().StringVar(&data, "data", "", "the data folder")
	c.PersistentFlags().StringVar(&store, "store", "", storeHelp)
	open := func(c *cobra.Command) (*node.Node, error) {
		if data == "" && store == "" {
			return nil, usagef("whose audit? Give --data DIR, or --store postgres://…")
		}
		r, folder, err := mustRegion(c, regionFile)
		if err != nil {
			return nil, err
		}
		return node.New(c.Context(), node.Config{Region: r, Folder: folder, Data: data, Store: store, Logger: newLogger(c.ErrOrStderr(), false)})
	}
	c.AddCommand(auditVerify(open), auditShow(open))
	return c
}

func auditVerify(open func(*cobra.Command) (*node.Node, error)) *cobra.Command {
	return &cobra.Command{
		Use: "verify", Short: "Check that no audit entry was changed, removed, added or reordered",
		Example: "  tombolo audit verify --region region.yaml --data data",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			n, err := open(c)
			if err != nil {
				return err
			}
			defer n.Close()
			rep, err := n.Audit.Verify(c.Context())
			if err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), rep)
			if !rep.OK() {
				return fmt.Errorf("the audit chain is broken")
			}
			return nil
		},
	}
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
			n, err := open(c)
			if err != nil {
				return err
			}
			defer n.Close()
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
