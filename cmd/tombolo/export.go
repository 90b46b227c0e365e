package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"tombolo/access"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/node"
)

type exportFlags struct {
	region, data, store       string
	person, from, format, out string
	reason                    string
	all, raw, located         bool
}

func exportCommand() *cobra.Command {
	var f exportFlags
	c := &cobra.Command{
		Use: "export", Short: "Write out all that is kept, of one person or of everybody, as FHIR",
		Long: "Writes all that this node keeps: the resources as their sources sent them, who is linked with whom, where each entry came from\n" +
			"(Provenance), who has looked (AuditEvent), and what is not here because its source is asked live (OperationOutcome).\n" +
			"Of one person it is a Bundle, of everybody NDJSON; with --out and NDJSON a new folder with a file for each type and a manifest,\n" +
			"which is written last: a folder without one is not whole. With --raw the messages and files as they came are there too.\n" +
			"Where restricted people are is left out, unless --locations asks for it.\n" +
			"Each person's export is in the audit log before anything of them is written, and the privacy officer is told.\n" +
			"On an embedded store, stop the node first; on a database it may run on.",
		Example: "  tombolo export --region region.yaml --data data --person 3k9… --reason \"asked for by the person\" --out record.json\n" +
			"  tombolo export --region region.yaml --data data --identifier-from number.txt --out record.json\n" +
			"  tombolo export --region region.yaml --data data --all --raw --locations --reason \"moving to another system\" --out everything",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	fl := c.Flags()
	fl.StringVar(&f.region, "region", "", "the region file")
	fl.StringVar(&f.data, "data", "", "the data folder")
	fl.StringVar(&f.store, "store", "", storeHelp)
	fl.StringVar(&f.person, "person", "", "one person, by their id on this node (the id in the record's address)")
	fl.StringVar(&f.from, "identifier-from", "", "one person, by the NHS number (or SYSTEM|VALUE) in this file, - for standard input: a number does not belong on a command line")
	fl.BoolVar(&f.all, "all", false, "everybody, and the whole audit log")
	fl.BoolVar(&f.raw, "raw", false, "also the messages and files as they came, as Binary under their SHA-256")
	fl.BoolVar(&f.located, "locations", false, "also where people are whose whereabouts must not be known; say why with --reason")
	fl.StringVar(&f.format, "format", "", "bundle or ndjson (bundle for one person, ndjson for everybody)")
	fl.StringVar(&f.out, "out", "", "write to this new file or, as NDJSON, folder, which only you may read (standard output if not given)")
	fl.StringVar(&f.reason, "reason", "", "why, in words: it stands in the audit log, where the person can read it")
	return c
}

func (f *exportFlags) check() error {
	asked := 0
	for _, is := range []bool{f.person != "", f.from != "", f.all} {
		if is {
			asked++
		}
	}
	switch {
	case asked != 1:
		return usagef("whose? Give one of --person ID, --identifier-from FILE, --all")
	case f.data == "" && f.store == "":
		return usagef("from where? Give --data DIR, or --store postgres://…")
	case f.located && f.reason == "":
		return usagef("where restricted people are is given for a reason only: say it with --reason")
	case f.raw && f.all && !f.located:
		return usagef("what came, as it came, tells where restricted people are: leave out --raw, or add --locations and say why with --reason")
	case f.format == "" && f.all:
		f.format = "ndjson"
	case f.format == "":
		f.format = "bundle"
	}
	if f.format != "bundle" && f.format != "ndjson" {
		return usagef("there is no format %q: give bundle or ndjson", f.format)
	}
	return noNumber(f.person)
}

// noNumber refuses a national number where everybody on the machine can read it.
func noNumber(person string) error {
	if _, err := fhir.ParseNHSNumber(person); err == nil {
		return usagef("that is an NHS number, which does not belong on a command line: give the id in the record's address")
	}
	return nil
}

func (f *exportFlags) run(c *cobra.Command) (err error) {
	if err := f.check(); err != nil {
		return err
	}
	var id fhir.Identifier
	if f.from != "" {
		if id, err = readIdentifier(c.InOrStdin(), f.from); err != nil {
			return err
		}
	}
	n, err := openNode(c, f.region, f.data, f.store)
	if err != nil {
		return err
	}
	defer n.Close()
	n.Start(c.Context())
	if err := n.CatchUp(c.Context()); err != nil {
		return err
	}
	out, err := f.writer(c.OutOrStdout())
	if err != nil {
		return err
	}
	x := node.Export{By: operator(), Reason: f.reason, Trace: access.NewTrace(), Number: id, Raw: f.raw, Located: f.located, Write: out.write}
	var given gather.Exported
	if f.all {
		given, err = n.ExportAll(c.Context(), x)
	} else {
		if f.person == "" {
			if f.person, err = n.People.Resolve(c.Context(), id); fhir.Is(err, fhir.NotFound) {
				f.person, err = unknownPerson, nil // asked for like any other: that nobody was found is recorded
			}
		}
		if err == nil {
			given, err = n.ExportPerson(c.Context(), x, f.person)
		}
	}
	if err != nil {
		return fmt.Errorf("the export is not whole: %w", errors.Join(err, out.abandon()))
	}
	head, err := n.Audit.Head(c.Context())
	if err != nil {
		return err
	}
	if err := out.finish(manifest{Region: n.Region(), Program: "tombolo " + version, AuditHead: head.String()}); err != nil {
		return err
	}
	fmt.Fprintf(c.ErrOrStderr(), "%d resources written\n", given.Resources)
	for _, d := range given.Damaged {
		fmt.Fprintln(c.ErrOrStderr(), d)
	}
	if len(given.Damaged) > 0 {
		return fmt.Errorf("%d resources are damaged and could not be given: restore a backup, or have their sources send them again", len(given.Damaged))
	}
	return nil
}

// unknownPerson is no id of anybody.
const unknownPerson = "nobody"

// readIdentifier reads a person's number from the first line of a file, or of standard input.
func readIdentifier(stdin io.Reader, path string) (fhir.Identifier, error) {
	in := stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return fhir.Identifier{}, err
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	line, err := bufio.NewReader(io.LimitReader(in, 1<<10)).ReadString('\n')
	if err != nil && err != io.EOF {
		return fhir.Identifier{}, fmt.Errorf("read the number: %w", err)
	}
	id := fhir.Identifier{System: fhir.SystemNHSNumber, Value: strings.TrimSpace(line)}
	if system, value, ok := strings.Cut(id.Value, "|"); ok {
		id.System, id.Value = system, value
	}
	id = id.Canonical()
	return id, id.Check()
}

// writer is where the export goes.
func (f *exportFlags) writer(stdout io.Writer) (exportWriter, error) {
	switch {
	case f.out == "" && f.format == "ndjson":
		return &ndjsonStream{w: bufio.NewWriterSize(stdout, 1<<16)}, nil
	case f.out == "":
		return newBundleStream(stdout, ""), nil
	case f.format == "ndjson":
		if err := os.Mkdir(f.out, 0o700); err != nil {
			return nil, fmt.Errorf("write to a new folder: %w", err)
		}
		return &ndjsonFolder{dir: f.out, files: map[string]*ndjsonFile{}}, nil
	}
	file, err := os.OpenFile(filepath.Clean(f.out), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write to a new file: %w", err)
	}
	return newBundleStream(file, f.out), nil
}
