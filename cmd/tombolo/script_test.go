package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"tombolo/kv/postgres/pgtest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"tombolo": func() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }})
}

// TestStories runs the stories under testdata/script. They are the tutorial too: each says in its first lines what it shows.
func TestStories(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script"})
}

// TestStoriesOnPostgreSQL runs those for which $STORE is the address of an empty database.
func TestStoriesOnPostgreSQL(t *testing.T) {
	pgtest.Need(t)
	testscript.Run(t, testscript.Params{Dir: "testdata/postgres", Setup: func(env *testscript.Env) error {
		env.Setenv("STORE", pgtest.URL(env.T().(testing.TB)))
		return nil
	}})
}
