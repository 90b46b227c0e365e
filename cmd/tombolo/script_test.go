package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"tombolo/kv/postgres/pgtest"
	"tombolo/sim/lookout"
	"tombolo/sim/lookout/nodes"
)

func TestMain(m *testing.M) {
	testscript.Main(watched{m}, map[string]func(){"tombolo": func() {
		end := nodes.Begin()
		code := run(os.Args[1:], os.Stdout, lookout.Said(os.Stderr))
		end()
		os.Exit(code)
	}})
}

// watched are the tests of this package under the lookout, which sees their nodes and those of the commands that the stories run.
type watched struct{ m *testing.M }

func (w watched) Run() int { return nodes.Main(w.m) }

// reporting has a story's commands tell the lookout of this process what leaks.
func reporting(env *testscript.Env) error {
	env.Setenv(lookout.Report())
	return nil
}

// TestStories runs the stories under testdata/script. They are the tutorial too: each says in its first lines what it shows.
func TestStories(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", Setup: reporting})
}

// TestStoriesOnPostgreSQL runs those for which $STORE is the address of an empty database.
func TestStoriesOnPostgreSQL(t *testing.T) {
	pgtest.Need(t)
	testscript.Run(t, testscript.Params{Dir: "testdata/postgres", Setup: func(env *testscript.Env) error {
		env.Setenv("STORE", pgtest.URL(env.T().(testing.TB)))
		return reporting(env)
	}})
}
