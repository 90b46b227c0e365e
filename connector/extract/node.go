package extract

import (
	"fmt"
	"strconv"
	"strings"
)

// A node is one element of a resource under construction. The tree is built once, from the mapping's paths; each row then only writes
// JSON along it.
type node struct {
	name    string
	leaf    *expr  // its value comes from the row
	literal []byte // or from the mapping
	kids    []*node
	items   []*node // an array's items; nil where none was named
	dynamic bool    // some leaf below comes from the row
}

const (
	maxPathDepth = 16
	maxIndex     = 31
)

// insert puts a value at a path such as participant[1].individual.display.
func (n *node) insert(path string, leaf *expr, literal []byte) error {
	segments := strings.Split(path, ".")
	if len(segments) > maxPathDepth {
		return fmt.Errorf("the path has more than %d steps", maxPathDepth)
	}
	at := n
	for _, seg := range segments {
		name, index, err := segment(seg)
		if err != nil {
			return err
		}
		if at.leaf != nil || at.literal != nil {
			return fmt.Errorf("%s already has a value, so nothing can stand inside it", path)
		}
		if at, err = at.child(name, index); err != nil {
			return err
		}
	}
	if at.leaf != nil || at.literal != nil || at.kids != nil || at.items != nil {
		return fmt.Errorf("%s is given twice", path)
	}
	at.leaf, at.literal = leaf, literal
	return nil
}

func (n *node) child(name string, index int) (*node, error) {
	var kid *node
	for _, k := range n.kids {
		if k.name == name {
			kid = k
		}
	}
	if kid == nil {
		kid = &node{name: name}
		n.kids = append(n.kids, kid)
	}
	if index < 0 {
		if kid.items != nil {
			return nil, fmt.Errorf("%s is a list elsewhere: write %s[0]", name, name)
		}
		return kid, nil
	}
	if kid.kids != nil || kid.leaf != nil || kid.literal != nil {
		return nil, fmt.Errorf("%s is not a list elsewhere: write %[1]s without [%d], or with it everywhere", name, index)
	}
	for len(kid.items) <= index {
		kid.items = append(kid.items, nil)
	}
	if kid.items[index] == nil {
		kid.items[index] = &node{name: name}
	}
	return kid.items[index], nil
}

// segment reads "name" or "name[3]".
func segment(s string) (name string, index int, err error) {
	name, rest, indexed := strings.Cut(s, "[")
	index = -1
	if indexed {
		digits, ok := strings.CutSuffix(rest, "]")
		if index, err = strconv.Atoi(digits); !ok || err != nil || index < 0 || index > maxIndex {
			return "", 0, fmt.Errorf("%q: an index is a number from 0 to %d in square brackets", s, maxIndex)
		}
	}
	for i := range len(name) {
		if c := name[i]; !(c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' && i == 0 || i > 0 && c >= '0' && c <= '9') {
			return "", 0, fmt.Errorf("%q is not an element's name", s)
		}
	}
	if name == "" {
		return "", 0, fmt.Errorf("a path is elements' names with dots between, such as code.coding[0].code")
	}
	return name, index, nil
}

// refresh says for every node whether anything below it comes from the row.
func (n *node) refresh() bool {
	n.dynamic = n.leaf != nil
	for _, k := range n.kids {
		n.dynamic = k.refresh() || n.dynamic
	}
	for _, k := range n.items {
		n.dynamic = k != nil && k.refresh() || n.dynamic
	}
	return n.dynamic
}

// write writes the element for a row: written says whether there is any, fromRow whether anything in it came from the row. An element
// in which only constants are left of what should stand beside a value is no element, and is not written.
func (n *node) write(b []byte, c *cells) (out []byte, written, fromRow bool, err error) {
	switch {
	case n.literal != nil:
		return append(b, n.literal...), true, false, nil
	case n.leaf != nil:
		v, err := n.leaf.eval(c)
		if err != nil || v.kind == absent {
			return b, false, false, err
		}
		return v.appendJSON(b), true, true, nil
	}
	mark := len(b)
	list, kids := n.items != nil, n.kids
	open, shut := byte('{'), byte('}')
	if list {
		open, shut, kids = '[', ']', n.items
	}
	b = append(b, open)
	for _, k := range kids {
		if k == nil {
			continue
		}
		before := len(b)
		if before > mark+1 {
			b = append(b, ',')
		}
		if !list {
			b = append(quote(b, k.name), ':')
		}
		var ok, row bool
		b, ok, row, err = k.write(b, c)
		if err != nil {
			return b, false, false, err
		}
		if !ok {
			b = b[:before]
		}
		fromRow = fromRow || row
	}
	if len(b) == mark+1 || n.dynamic && !fromRow {
		return b[:mark], false, false, nil
	}
	return append(b, shut), true, fromRow, nil
}
