package region

import (
	"regexp"
	"slices"
	"strings"
)

var headerName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{0,63}$`)

// headersInUse are headers that a statement cannot go in: something else stands there.
var headersInUse = []string{"Authorization", "Accept", "Content-Type", "Host", "Cookie", "Content-Length", "Transfer-Encoding", "Connection"}

// assertion checks how a neighbour is told which user is asking.
func (c *checker) assertion(path string, n Neighbour) {
	a := n.Assertion
	if a == (Assertion{}) {
		return
	}
	path += ".assertion"
	if n.Kind == KindTombolo {
		c.err(path, "another Tombolo is always told who is asking by a statement, once issuer says who it is", "Remove assertion, and write issuer")
		return
	}
	switch a.As {
	case ByExchange:
		if a.Token == "" {
			c.err(path+".token", "nothing says where the statement is exchanged for a token", "Add token: the address of the neighbour's token endpoint")
			break
		}
		c.address(path+".token", a.Token)
		c.secure(path+".token", a.Token, "anybody on the way could ask as any of our users")
	case ByHeader:
		if !headerName.MatchString(a.Header) || slices.ContainsFunc(headersInUse, func(h string) bool { return strings.EqualFold(h, a.Header) }) {
			c.err(path+".header", "not a header of its own", "Write the name of the header in which the neighbour wants the statement")
		}
	}
	if a.As != ByExchange && (a.Token != "" || a.Scope != "") {
		c.err(path+".token", "a token endpoint and a scope are for exchange alone", "Remove token and scope, or write as: exchange")
	}
	if a.As != ByHeader && a.Header != "" {
		c.err(path+".header", "a header is for header alone", "Remove header, or write as: header")
	}
	if a.As != ByHeader && n.Token != "" {
		c.err(path, "the user's statement goes in place of our own credential, and token names one", "Remove token from the neighbour, or write as: header")
	}
}
