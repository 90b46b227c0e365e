package main

import (
	"fmt"
	"io"
	"os"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"tombolo/node"
)

func importCommand() *cobra.Command {
	var regionFile, data, store, source string
	c := &cobra.Command{
		Use:   "import --region FILE --data DIR --source ID PATH…",
		Short: "Take in files through the same door as everything else",
		Long: "Takes FHIR Bundles and NDJSON (.json, .ndjson, .gz), HL7 v2 messages (.hl7), EDIFACT reports (.edi), CDA documents (.xml) and CSV extracts (.csv, by the\n" +
			"system's mapping) from files and folders. An import that was interrupted can simply be run again: what was taken is recognised.\n" +
			"What cannot be taken is kept raw in quarantine and listed at the end.",
		Example: "  tombolo import --region region.yaml --data data --source rx1-pas messages/*.hl7\n  tombolo import --region region.yaml --data data --source rw4-mh bundles/",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, paths []string) error {
			r, folder, err := mustRegion(c, regionFile)
			if err != nil {
				return err
			}
			if data == "" && store == "" || source == "" {
				return usagef("give --data DIR (or --store postgres://…) and --source ID, the system that the files come from")
			}
			n, err := node.New(c.Context(), node.Config{Region: r, Folder: folder, Data: data, Store: store, Logger: newLogger(c.ErrOrStderr(), false)})
			if err != nil {
				return err
			}
			defer n.Close()
			n.Start(c.Context())
			files, total, err := node.Files(paths)
			if err != nil {
				return err
			}
			bar := progress(c.ErrOrStderr(), total)
			rep, err := n.Import(c.Context(), source, files, func(read int64) { _ = bar.Set64(read) })
			_ = bar.Finish()
			fmt.Fprint(c.OutOrStdout(), rep)
			return err
		},
	}
	c.Flags().StringVar(&regionFile, "region", "", "the region file")
	c.Flags().StringVar(&data, "data", "", "the data folder")
	c.Flags().StringVar(&store, "store", "", storeHelp)
	c.Flags().StringVar(&source, "source", "", "id of the system in the region file")
	return c
}

// progress is a bar of bytes read, on a terminal; elsewhere it is silent.
func progress(w io.Writer, total int64) *progressbar.ProgressBar {
	f, ok := w.(*os.File)
	visible := ok && term.IsTerminal(int(f.Fd()))
	return progressbar.NewOptions64(total, progressbar.OptionSetWriter(w), progressbar.OptionSetVisibility(visible),
		progressbar.OptionShowBytes(true), progressbar.OptionSetDescription("importing"), progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish())
}
