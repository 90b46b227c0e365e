// Package nodes puts a lookout over every node that a test starts, without the test's asking for it: TestMain does, once for the package. Only tests use it.
package nodes

import (
	"path/filepath"
	"runtime"
	"strings"

	"tombolo/node"
	"tombolo/sim/lookout"
)

// Main runs the tests of a package, each node of which is watched. Its TestMain is os.Exit(nodes.Main(m)).
func Main(m interface{ Run() int }) int {
	node.Watched = Over(nil)
	return lookout.Main(m)
}

// Begin has this process's nodes and default loggers watched; end looks through what was said. It is for commands that tests run; tests call Main.
func Begin() (end func() bool) {
	node.Watched = Over(nil)
	return lookout.Begin()
}

// Over is what puts a lookout over a node. report takes each leak; nil: it is reported when the process ends, and the tests fail.
func Over(report func(string)) func(node.Config) node.Watch {
	return func(c node.Config) node.Watch {
		folder := c.Data
		if folder != "" {
			folder = filepath.Clean(folder)
		}
		return lookout.New(lookout.Options{Name: "the node of " + starter(), Region: c.Region, Folder: folder, Open: c.Dev != "", Report: report})
	}
}

// starter is the test that made a node, or what did.
func starter() string {
	at := make([]uintptr, 64)
	frames := runtime.CallersFrames(at[:runtime.Callers(2, at)])
	last := "a process"
	for {
		f, more := frames.Next()
		_, name, _ := strings.Cut(f.Function[strings.LastIndexByte(f.Function, '/')+1:], ".")
		if strings.HasPrefix(name, "Test") || strings.HasPrefix(name, "Fuzz") || strings.HasPrefix(name, "Benchmark") {
			return f.Function
		}
		if strings.HasPrefix(f.Function, "tombolo/") {
			last = f.Function
		}
		if !more {
			return last
		}
	}
}
