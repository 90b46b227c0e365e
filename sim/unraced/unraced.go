// Package unraced has tests of scale run without the race detector: those that measure, since its costs would be measured too, and those that must try something
// many thousand times, of which it needs to see a few hundred.
package unraced

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Run runs a test in a process that was built without the race detector, and reports whether it is to go on in full in this one: because this is that process.
func Run(t *testing.T) bool {
	t.Helper()
	if !Raced {
		return true
	}
	args := []string{"test", ".", "-test.run=^" + t.Name() + "$", "-test.v", "-test.count=1"} // the tests of a package run in its folder
	if end, any := t.Deadline(); any {
		args = append(args, "-test.timeout="+time.Until(end).String())
	}
	if testing.Short() {
		args = append(args, "-test.short")
	}
	out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput()
	if t.Logf("without the race detector:\n%s", out); err != nil {
		t.Errorf("the test fails there: %v", err)
	} else if !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Error("the test was not run there")
	}
	return false
}

// Main runs a package's tests, all of them in a program that was built without the race detector if this one was not. For a TestMain.
func Main(run func() int) int {
	if !Raced {
		return run()
	}
	dir, err := os.MkdirTemp("", "unraced")
	if err != nil {
		fmt.Fprintln(os.Stderr, "unraced:", err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	program := filepath.Join(dir, filepath.Base(os.Args[0]))
	if out, err := exec.Command("go", "test", "-c", "-o", program, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "unraced: the tests cannot be built: %v\n%s", err, out)
		return 1
	}
	c := exec.Command(program, os.Args[1:]...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := c.Run(); err != nil {
		if code := c.ProcessState.ExitCode(); code > 0 {
			return code
		}
		fmt.Fprintln(os.Stderr, "unraced:", err)
		return 1
	}
	return 0
}
