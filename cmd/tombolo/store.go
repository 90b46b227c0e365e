package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"tombolo/node"
	"tombolo/store"
)

func storeCommand() *cobra.Command {
	var c node.Config
	var asJSON bool
	parent := &cobra.Command{
		Use:   "store",
		Short: "Check, mend, back up and restore the store, and see what is in it",
		Long: "All of these work while a node runs: on a database beside it; on an embedded store the node itself does it, asked over the socket\n" +
			"upkeep.sock in its data folder, which only those who may use the folder can reach.",
		Example: "  tombolo store verify --data data\n  tombolo store backup --data data /backups/monday\n  tombolo store stats --store postgres://tombolo@db.example/tombolo --json",
	}
	parent.PersistentFlags().StringVar(&c.Data, "data", "", "the data folder")
	parent.PersistentFlags().StringVar(&c.Store, "store", "", storeHelp)
	parent.PersistentFlags().BoolVar(&asJSON, "json", false, "say what came of it as one JSON object")
	run := func(do, failed string) func(*cobra.Command, []string) error {
		return func(cmd *cobra.Command, args []string) error {
			if c.Data == "" && c.Store == "" {
				return usagef("which store? Give --data DIR, or --store postgres://…")
			}
			u := node.Upkeep{Do: do}
			if len(args) > 0 {
				u.Dir = args[0]
			}
			c.Logger = newLogger(cmd.ErrOrStderr(), false)
			told := &upkeepProgress{w: cmd.ErrOrStderr()}
			k, err := node.Maintain(cmd.Context(), c, u, told.tell)
			told.done()
			if err != nil {
				return err
			}
			if asJSON {
				fmt.Fprintf(cmd.OutOrStdout(), "%s\n", k.Data)
			} else {
				fmt.Fprint(cmd.OutOrStdout(), k.Text)
			}
			if !k.OK {
				return fmt.Errorf("%s", failed)
			}
			return nil
		}
	}
	parent.AddCommand(&cobra.Command{
		Use: "verify", Short: "Hold all that is stored to its checksums, and the indexes and the log to the records", Args: cobra.NoArgs,
		Long: "Reads one moment of the whole store: the SHA-256 of every version, what the indexes say against what the records say, in both directions,\n" +
			"that every version has its event in the log, and that the log has no holes. Says what is wrong with what, and how to mend it. Changes\n" +
			"nothing. Exit code 1 if anything is wrong.",
		Example: "  tombolo store verify --data data", RunE: run("verify", "the store is not as it should be"),
	}, &cobra.Command{
		Use: "reindex", Short: "Make the indexes anew from the records, while work goes on", Args: cobra.NoArgs,
		Long: "Adds what the indexes lack and removes what they should not have. It can be interrupted: run again, it goes on where it was. A node does\n" +
			"so by itself when a new version of the program indexes more; until then searches across records read everything, and stay right.",
		Example: "  tombolo store reindex --data data", RunE: run("reindex", "the store could not be reindexed"),
	}, &cobra.Command{
		Use: "pointers", Short: "Make the record locator's pointers anew from the log, while work goes on", Args: cobra.NoArgs,
		Long: "Drops what says which source holds what about whom, and has it made again from the beginning of the log. Until that is done nothing is\n" +
			"registered with locators above this one, nor taken away. A node does so by itself when a new version keeps them otherwise.",
		Example: "  tombolo store pointers --data data", RunE: run("pointers", "the pointers could not be made anew"),
	}, &cobra.Command{
		Use: "backup DIR", Short: "Copy one moment of the store into a new folder, while work goes on, and read the copy back", Args: cobra.ExactArgs(1),
		Long: "Writes the store and what else lies in the data folder (the audit key too: keep backups as you keep the store), then reads all of the copy\n" +
			"as a restore would. The copy of an embedded store on the same file system shares files with it: move it to another disk. For\n" +
			"PostgreSQL the copy is restored into a schema of its own for the check, which takes as much room again while it lasts.",
		Example: "  tombolo store backup --data data /backups/2026-06-01", RunE: run("backup", "the backup is of a damaged store"),
	}, &cobra.Command{
		Use: "restore DIR", Short: "Make a store of a backup, where there is none yet, and verify it", Args: cobra.ExactArgs(1),
		Example: "  tombolo store restore --data restored /backups/2026-06-01", RunE: run("restore", "what was restored is not as it should be"),
	}, &cobra.Command{
		Use: "stats", Short: "What is in the store, and how much room it takes", Args: cobra.NoArgs,
		Example: "  tombolo store stats --data data --json", RunE: run("stats", "the store could not be read"),
	})
	return parent
}

// upkeepProgress writes over one line of a terminal; elsewhere it is silent.
type upkeepProgress struct {
	w    io.Writer
	last time.Time
	wide int
}

func (p *upkeepProgress) tell(at store.Progress) {
	f, ok := p.w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || time.Since(p.last) < 200*time.Millisecond {
		return
	}
	p.last = time.Now()
	text := at.Doing
	if at.Done > 0 {
		text += fmt.Sprintf(" %d", at.Done)
	}
	if at.Total > 0 {
		text += fmt.Sprintf(" of %d", at.Total)
	}
	fmt.Fprintf(p.w, "\r%s%s", text, strings.Repeat(" ", max(0, p.wide-len(text))))
	p.wide = max(p.wide, len(text))
}

func (p *upkeepProgress) done() {
	if p.wide > 0 {
		fmt.Fprintf(p.w, "\r%s\r", strings.Repeat(" ", p.wide))
	}
}
