package main

import (
	"os"
	"regexp"
	"testing"

	"tombolo/region"
)

// TestTheReadmesRegionIsRight keeps the README's first region file one that runs.
func TestTheReadmesRegionIsRight(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindSubmatch(text)
	if m == nil {
		t.Fatal("the README shows no region file")
	}
	_, problems := region.Parse("README.md", m[1])
	for _, p := range problems {
		if p.Severity == region.Error {
			t.Error(p)
		}
	}
}
