package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// Each command stands in docs/storage.md with what a repeat of it does: whoever adds one has to say so.
func TestEveryCommandSaysWhatARepeatDoes(t *testing.T) {
	src, err := os.ReadFile("../../docs/storage.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, ok := strings.Cut(string(src), "**Each way in**")
	if list, _, _ = strings.Cut(list, "\n\nA disclosure"); !ok {
		t.Fatal("docs/storage.md does not list the ways in")
	}
	told := map[string]bool{}
	for _, m := range regexp.MustCompile("`(tombolo [^`]+)`").FindAllStringSubmatch(list, -1) {
		told[m[1]] = true
	}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Runnable() && c.HasParent() && !c.Hidden {
			if !told[c.CommandPath()] {
				t.Errorf("%s is not in docs/storage.md: say there what it writes, and what a repeat of it does", c.CommandPath())
			}
			delete(told, c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(newRoot())
	for c := range told {
		t.Errorf("docs/storage.md lists %s, and there is no such command", c)
	}
}
