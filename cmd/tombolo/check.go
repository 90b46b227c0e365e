package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"tombolo/connector/extract"
	"tombolo/connector/hl7v2"
	"tombolo/fhir"
	"tombolo/policy"
	"tombolo/region"
)

func checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "check FILE",
		Short:   "Check a region file: every error with its line and how to mend it",
		Example: "  tombolo check region.yaml",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			r, problems, err := readRegion(args[0])
			if err != nil {
				return err
			}
			bad := 0
			for _, p := range problems {
				fmt.Fprintln(c.OutOrStdout(), p)
				if p.Severity == region.Error {
					bad++
				}
			}
			if bad > 0 {
				return fmt.Errorf("%s has %d error(s)", args[0], bad)
			}
			fmt.Fprintf(c.OutOrStdout(), "%s: all well. %d organisations, %d systems, %d agreements, %d neighbours.\n",
				args[0], len(r.Organisations), len(r.Systems), len(r.Agreements), len(r.Neighbours))
			return nil
		},
	}
}

// readRegion reads and checks a region file and the mapping files that it names. r may be nil where there are errors.
func readRegion(path string) (*region.Region, []region.Problem, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, nil, fmt.Errorf("the region file cannot be read: %w", err)
	}
	r, problems := region.Load(path)
	if r == nil {
		return r, problems, nil
	}
	for _, s := range r.Systems {
		var err error
		language := "docs/extract-mapping.md"
		switch {
		case s.Mapping == "":
		case s.Connector == "extract":
			_, err = extract.Load(s.Mapping, filepath.Dir(path))
		case s.Connector == "hl7v2":
			_, err = hl7v2.LoadMapping(s.Mapping, filepath.Dir(path))
			language = "docs/hl7v2-mapping.md"
		}
		if err != nil && !fhir.Is(err, fhir.NotFound) {
			problems = append(problems, region.Problem{File: filepath.Base(path), Path: "systems." + s.ID + ".mapping", Severity: region.Error, Message: err.Error(),
				Fix: "mend the mapping file: " + language + " says how it is written"})
		}
	}
	if lists := r.Policy.CodeLists; lists != "" {
		if !filepath.IsAbs(lists) {
			lists = filepath.Join(filepath.Dir(path), lists)
		}
		if _, err := policy.ReadLists(os.DirFS(lists)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			problems = append(problems, region.Problem{File: filepath.Base(path), Path: "policy.code_lists", Severity: region.Error, Message: err.Error(),
				Fix: "mend the list, or unpack the release again: docs/sensitivity.md says how they are written"})
		}
	}
	return r, problems, nil
}

// mustRegion reads a region file that is to be run: any error ends it, with all of them told.
func mustRegion(c *cobra.Command, path string) (*region.Region, string, error) {
	if path == "" {
		return nil, "", usagef("which region? Give --region FILE")
	}
	r, problems, err := readRegion(path)
	if err != nil {
		return nil, "", err
	}
	bad := 0
	for _, p := range problems {
		fmt.Fprintln(c.ErrOrStderr(), p)
		if p.Severity == region.Error {
			bad++
		}
	}
	if bad > 0 {
		return nil, "", fmt.Errorf("%s has %d error(s), so it is not run", path, bad)
	}
	return r, filepath.Dir(path), nil
}
