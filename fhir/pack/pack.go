// Package pack reads FHIR packages: the .tgz files in which FHIR's own definitions, and those of nations and projects, are published (FHIR NPM Package
// Specification). What is in a file is not looked at.
package pack

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path"
	"strings"
)

// A File of a package. Its content is there until the next file is asked for.
type File struct {
	Folder  string // "package", "package/example"
	Name    string // "StructureDefinition-Patient.json"
	Content io.Reader
}

// Kind is what the file's name says that it holds: "StructureDefinition", or "package.json" for the file of that name.
func (f File) Kind() string {
	kind, _, _ := strings.Cut(f.Name, "-")
	return kind
}

// Open goes through the files of the package at a path, in the order in which they stand there. The first error is the last that is given: a package is
// read whole, or not relied upon.
func Open(path string) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		f, err := os.Open(path)
		if err != nil {
			yield(File{}, err)
			return
		}
		defer func() { _ = f.Close() }()
		for file, err := range Files(f) {
			if err != nil {
				err = fmt.Errorf("%s: %w", path, err)
			}
			if !yield(file, err) {
				return
			}
		}
	}
}

// Files goes through the files of a package.
func Files(r io.Reader) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		z, err := gzip.NewReader(r)
		if err != nil {
			yield(File{}, err)
			return
		}
		for tr := tar.NewReader(z); ; {
			h, err := tr.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(File{}, err)
				return
			}
			if h.Typeflag != tar.TypeReg {
				continue
			}
			if !yield(File{strings.TrimPrefix(path.Dir(h.Name), "./"), path.Base(h.Name), tr}, nil) {
				return
			}
		}
	}
}
