package council

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// A reader finds everything in a PDF by byte offsets and lengths, so those must be right.
func TestAPDFHoldsTogether(t *testing.T) {
	text := strings.Repeat("Two visits a day (morning & evening), £14.50 a visit; the key’s in the safe \\ by the back door. ", 90)
	for _, text := range []string{"", "Short.", text} {
		pdf := PDF("Care and support plan", text)
		start := regexp.MustCompile(`startxref\n(\d+)\n%%EOF\n$`).FindSubmatch(pdf)
		if start == nil {
			t.Fatal("no startxref at the end")
		}
		at, _ := strconv.Atoi(string(start[1]))
		if !bytes.HasPrefix(pdf[at:], []byte("xref\n0 ")) {
			t.Fatalf("startxref leads to %.10q", pdf[at:])
		}
		for i, m := range regexp.MustCompile(`(\d{10}) 00000 n \n`).FindAllSubmatch(pdf[at:], -1) {
			at, _ := strconv.Atoi(string(m[1]))
			if want := fmt.Sprintf("%d 0 obj\n", i+1); !bytes.HasPrefix(pdf[at:], []byte(want)) {
				t.Errorf("object %d is not at %d", i+1, at)
			}
		}
		streams := regexp.MustCompile(`(?s)/Length (\d+) >>\nstream\n(.*?)\nendstream`).FindAllSubmatch(pdf, -1)
		for _, m := range streams {
			if string(m[1]) != strconv.Itoa(len(m[2])) {
				t.Errorf("a stream of %d bytes says %s", len(m[2]), m[1])
			}
		}
		if pages := 1 + len(text)/86/46; len(streams) < pages {
			t.Errorf("%d pages for %d characters", len(streams), len(text))
		}
	}
	if pdf := PDF("A", "£5 (five) \\ ’"); !bytes.Contains(pdf, []byte(`(\2435 \(five\) \\ \222) Tj`)) {
		t.Error("signs are not escaped as WinAnsi")
	}
}
