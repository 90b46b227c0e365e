package council

import (
	"bytes"
	"fmt"
	"strings"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
)

// PDF makes a plain PDF of a title and text that any reader opens: A4, Helvetica, wrapped by characters, as many pages as it takes.
//
// ISO 32000-1 §7.5 (file structure), §9.6.2.2 (standard fonts need not be embedded)
func PDF(title, text string) []byte {
	const perLine, perPage = 86, 46
	pages := [][]string{}
	for i, line := range wrap(text, perLine) {
		if i%perPage == 0 {
			pages = append(pages, nil)
		}
		pages[len(pages)-1] = append(pages[len(pages)-1], line)
	}
	objects := []string{"<< /Type /Catalog /Pages 2 0 R /Lang (en-GB) >>", "", "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
		"<< /Title (" + escape(title) + ") /Producer (Simulated council) >>"}
	var kids []string
	for n, lines := range pages {
		var c strings.Builder
		c.WriteString("BT /F1 16 Tf 56 780 Td (" + escape(title) + ") Tj /F1 11 Tf 0 -30 Td 15 TL\n")
		for _, l := range lines {
			c.WriteString("(" + escape(l) + ") Tj T*\n")
		}
		fmt.Fprintf(&c, "ET BT /F1 9 Tf 56 40 Td (Page %d of %d) Tj ET", n+1, len(pages))
		at := len(objects) + 1
		kids = append(kids, fmt.Sprintf("%d 0 R", at))
		objects = append(objects,
			fmt.Sprintf("<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >> /Contents %d 0 R >>", at+1),
			fmt.Sprintf("<< /Length %d >>\nstream\n%s\nendstream", c.Len(), c.String()))
	}
	objects[1] = fmt.Sprintf("<< /Type /Pages /Kids [%s] /Count %d >>", strings.Join(kids, " "), len(kids))
	var b bytes.Buffer
	b.WriteString("%PDF-1.4\n%\xe2\xe3\xcf\xd3\n") // four high bytes: not text, whatever copies it
	var places []int
	for i, o := range objects {
		places = append(places, b.Len())
		fmt.Fprintf(&b, "%d 0 obj\n%s\nendobj\n", i+1, o)
	}
	start := b.Len()
	fmt.Fprintf(&b, "xref\n0 %d\n0000000000 65535 f \n", len(objects)+1)
	for _, p := range places {
		fmt.Fprintf(&b, "%010d 00000 n \n", p)
	}
	fmt.Fprintf(&b, "trailer\n<< /Size %d /Root 1 0 R /Info 4 0 R >>\nstartxref\n%d\n%%%%EOF\n", len(objects)+1, start)
	return b.Bytes()
}

// escape writes text as the inside of a PDF string in WinAnsi, which is Windows-1252. ISO 32000-1 §7.3.4.2
func escape(s string) string {
	s, _ = encoding.ReplaceUnsupported(charmap.Windows1252.NewEncoder()).String(s)
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c == '(' || c == ')' || c == '\\':
			b.WriteString(`\` + string(rune(c)))
		case c < 0x20 || c > 0x7e:
			fmt.Fprintf(&b, `\%03o`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// wrap breaks text into lines at blanks; it gives at least one line.
func wrap(text string, width int) []string {
	var out []string
	for para := range strings.SplitSeq(text, "\n") {
		line := ""
		for _, w := range strings.Fields(para) {
			if line != "" && len(line)+1+len(w) > width {
				out, line = append(out, line), ""
			}
			if line != "" {
				line += " "
			}
			line += w
		}
		out = append(out, line)
	}
	return out
}
