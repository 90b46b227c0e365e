package document

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"

	"golang.org/x/text/encoding/charmap"

	"tombolo/fhir"
)

// Limits on XML from outside. A clinical document nests about 20 deep and has a few thousand elements; what goes far beyond is either
// broken or meant to hurt. They are checked on the bytes before encoding/xml sees them, because it builds a tag with all its attributes
// before anyone can say stop.
const (
	maxDepth    = 64
	maxElements = 200_000
	maxTag      = 64 << 10 // bytes of one tag with its attributes
	maxAttrs    = 400_000
)

// A node is one element, or (with no name) a run of text.
type node struct {
	space, name string
	attr        []xml.Attr
	kids        []*node
	text        string
}

// readXML reads a whole XML document into a tree. It refuses every DTD (and with it all entities but XML's own five), reads UTF-8,
// US-ASCII, ISO-8859-1 and Windows-1252, and never quotes the document in an error.
func readXML(data []byte) (*node, error) {
	if bytes.HasPrefix(data, []byte{0xff, 0xfe}) || bytes.HasPrefix(data, []byte{0xfe, 0xff}) {
		return nil, fhir.Errorf(fhir.NotSupported, "the document is in UTF-16; send it in UTF-8")
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if err := precheck(data); err != nil {
		return nil, err
	}
	d := xml.NewDecoder(bytes.NewReader(data))
	d.CharsetReader = charset
	root := &node{}
	open := []*node{root}
	for {
		tok, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, xmlProblem(err, d)
		}
		here := open[len(open)-1]
		switch t := tok.(type) {
		case xml.StartElement:
			if len(open) > maxDepth {
				return nil, tooDeep(d)
			}
			n := &node{space: t.Name.Space, name: t.Name.Local, attr: t.Copy().Attr}
			here.kids = append(here.kids, n)
			open = append(open, n)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			if len(open) > 1 && len(t) > 0 {
				here.kids = append(here.kids, &node{text: string(t)})
			}
		case xml.Directive:
			return nil, errDTD
		}
	}
	for _, k := range root.kids {
		if k.name != "" {
			return k, nil
		}
	}
	return nil, fhir.Errorf(fhir.Structure, "not an XML document: it has no element")
}

var errDTD = fhir.Errorf(fhir.NotSupported, "the document declares a DTD or entities, which are refused: send it without <!DOCTYPE")

func tooDeep(d *xml.Decoder) error {
	line, _ := d.InputPos()
	return fhir.Errorf(fhir.TooCostly, "elements are nested more than %d deep at line %d", maxDepth, line)
}

// xmlProblem says where a document is wrong without quoting it.
func xmlProblem(err error, d *xml.Decoder) error {
	if i := fhir.IssueOf(err); i != nil {
		return i
	}
	line, _ := d.InputPos()
	var se *xml.SyntaxError
	if errors.As(err, &se) {
		if strings.Contains(se.Msg, "entity") {
			return fhir.Errorf(fhir.Structure, "an entity that XML does not know at line %d: write the character itself", se.Line)
		}
		line = se.Line
	}
	return fhir.Errorf(fhir.Structure, "not well-formed XML at line %d: is it cut off, or a tag not closed?", line)
}

// precheck walks the bytes once, in constant memory, for what would be costly to parse.
func precheck(data []byte) error {
	depth, elements, attrs := 0, 0, 0
	for i := 0; i < len(data); {
		j := bytes.IndexByte(data[i:], '<')
		if j < 0 {
			return nil
		}
		i += j
		rest := data[i:]
		end := ">"
		switch {
		case bytes.HasPrefix(rest, []byte("<!--")):
			end = "-->"
		case bytes.HasPrefix(rest, []byte("<![CDATA[")):
			end = "]]>"
		case bytes.HasPrefix(rest, []byte("<!")):
			return errDTD
		case bytes.HasPrefix(rest, []byte("<?")):
			end = "?>"
		default:
			n, a := tag(rest)
			if attrs += a; attrs > maxAttrs {
				return fhir.Errorf(fhir.TooCostly, "the document has more than %d attributes", maxAttrs)
			}
			if n > maxTag {
				return fhir.Errorf(fhir.TooCostly, "a tag is longer than %d KiB at byte %d", maxTag>>10, i)
			}
			if elements++; elements > 2*maxElements {
				return fhir.Errorf(fhir.TooCostly, "the document has more than %d elements", maxElements)
			}
			switch {
			case len(rest) > 1 && rest[1] == '/':
				depth--
			case n < 2 || rest[n-2] != '/':
				if depth++; depth > maxDepth {
					return fhir.Errorf(fhir.TooCostly, "elements are nested more than %d deep at byte %d", maxDepth, i)
				}
			}
			i += n
			continue
		}
		k := bytes.Index(rest, []byte(end))
		if k < 0 {
			return nil // the parser will say that it is cut off
		}
		i += k + len(end)
	}
	return nil
}

// tag is the bytes and attributes of the tag at the start of b, '>' inside quotes not ending it; one byte more than maxTag if it is longer.
func tag(b []byte) (length, attrs int) {
	quote := byte(0)
	for i := 1; i < len(b); i++ {
		if i > maxTag {
			return maxTag + 1, attrs
		}
		switch c := b[i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '=':
			attrs++
		case c == '>':
			return i + 1, attrs
		}
	}
	return len(b), attrs
}

func charset(label string, in io.Reader) (io.Reader, error) {
	switch strings.ToLower(label) {
	case "utf-8", "us-ascii", "ascii":
		return in, nil
	case "iso-8859-1", "latin1", "windows-1252", "cp1252": // WHATWG Encoding: latin1 is read as windows-1252
		return charmap.Windows1252.NewDecoder().Reader(in), nil
	}
	return nil, fhir.Errorf(fhir.NotSupported, "the document's encoding is not read here; send it in UTF-8")
}

// hl7 is the namespace of CDA.
const hl7 = "urn:hl7-org:v3"

// child is the first child element of the HL7 namespace with the name; nil if there is none. All methods may be called on nil, so that a
// path through missing elements ends in nothing.
func (n *node) child(path ...string) *node {
	for _, name := range path {
		var found *node
		if n != nil {
			for _, k := range n.kids {
				if k.name == name && k.space == hl7 {
					found = k
					break
				}
			}
		}
		n = found
	}
	return n
}

// children are all child elements of the HL7 namespace with the name.
func (n *node) children(name string) []*node {
	var out []*node
	if n != nil {
		for _, k := range n.kids {
			if k.name == name && k.space == hl7 {
				out = append(out, k)
			}
		}
	}
	return out
}

// at is an attribute's value; names are matched without namespace.
func (n *node) at(name string) string {
	if n != nil {
		for _, a := range n.attr {
			if a.Name.Local == name && a.Name.Space != "xmlns" {
				return strings.TrimSpace(a.Value)
			}
		}
	}
	return ""
}

// words is all text below n with white space made single.
func (n *node) words() string {
	var b strings.Builder
	n.write(&b)
	return strings.Join(strings.Fields(b.String()), " ")
}

func (n *node) write(b *strings.Builder) {
	if n == nil {
		return
	}
	b.WriteString(n.text)
	if n.name == "br" {
		b.WriteByte(' ')
	}
	for _, k := range n.kids {
		k.write(b)
	}
}

// null reports whether the element is missing or says that it has no value. CDA R2 §nullFlavor
func (n *node) null() bool { return n == nil || n.at("nullFlavor") != "" }
