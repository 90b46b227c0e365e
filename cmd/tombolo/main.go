// Command tombolo runs a shared care record: one file per command.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set at release.
var version = "0.1.0-dev"

func main() {
	giveRoom()
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run executes one command line: 0 is ok, 1 failed, 2 bad usage.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	c, err := root.ExecuteContextC(ctx)
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "tombolo: %v\nSee: %s --help\n", err, c.CommandPath())
		return 2
	case ctx.Err() != nil:
		fmt.Fprintf(stderr, "tombolo: interrupted before it was done: %v\n", err)
		return 1
	}
	fmt.Fprintf(stderr, "tombolo: %v\n", err)
	return 1
}

// A usageError is the command line's fault, not the world's.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "tombolo",
		Short: "A federated shared care record",
		Long: "Tombolo joins a person's record from the systems that hold it, each speaking its own language,\n" +
			"and says plainly what is missing. One file describes the region; this program runs it and checks it.",
		Example:       "  tombolo demo                                     a whole simulated region, to look at\n  tombolo check region.yaml                        is the region file right?\n  tombolo serve --region region.yaml --data data   run a region",
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("there is no command %q", args[0])
			}
			return c.Help()
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(demoCommand(), serveCommand(), checkCommand(), importCommand(), hl7Command(), auditCommand(), policyCommand(), exportCommand(), conformCommand(), probeCommand(), storeCommand(), sbomCommand(), benchCommand())
	for _, c := range root.Commands() {
		refuseExtra(c)
	}
	return root
}

// refuseExtra makes wrong arguments a usage error, for a command and those below it. What was given is not said again: it may be a patient's number.
func refuseExtra(c *cobra.Command) {
	if args := c.Args; args != nil {
		c.Args = func(c *cobra.Command, given []string) error {
			if args(c, given) != nil {
				return usagef("this is written %s (arguments given beside the flags: %d)", c.UseLine(), len(given))
			}
			return nil
		}
	}
	if len(c.Commands()) > 0 && c.RunE == nil { // cobra shows help for a misspelt one and exits 0, which a script takes for done
		c.RunE = func(c *cobra.Command, given []string) error {
			if len(given) == 0 {
				return c.Help()
			}
			var names []string
			for _, sub := range c.Commands() {
				names = append(names, sub.Name())
			}
			return usagef("there is no such command: those of %s are %s", c.CommandPath(), strings.Join(names, ", "))
		}
	}
	for _, sub := range c.Commands() {
		refuseExtra(sub)
	}
}

// newLogger logs to stderr what an operator would act on.
func newLogger(w io.Writer, verbose bool) *slog.Logger {
	level := slog.LevelWarn
	if verbose {
		level = slog.LevelInfo
	}
	l := slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
	slog.SetDefault(l) // libraries that log by themselves: the authorisation server's
	return l
}
