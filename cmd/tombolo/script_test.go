package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"tombolo": func() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }})
}

// TestStories runs the stories under testdata/script. They are the tutorial too: each says in its first lines what it shows.
func TestStories(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script"})
}
