package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tombolo/audit"
	"tombolo/fhir"
)

// An AuditAsk is what somebody at the command line wants of the audit log.
type AuditAsk struct {
	By     audit.Agent
	Do     string      // verify, show or head
	Person string      // of show: their id on this node
	Heads  []string    // of verify: heads that somebody else kept, as NUMBER:HASH
	Files  []HeadsFile // of verify: files of signed heads that somebody else kept
	Key    string      // of verify: the public key that signed those; "": this node's own
}

// A HeadsFile is what stands in a file of signed heads, with its name for errors.
type HeadsFile struct {
	Name    string
	Content []byte
}

// Runs reports whether a node runs on the embedded store in a data folder.
func Runs(data string) bool {
	conn, err := net.Dial("unix", filepath.Join(data, socketName))
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// ExplainRegion explains who could see what of somebody's record; see Node.Explain.
func ExplainRegion(ctx context.Context, c Config, ask ExplainAsk) (Kept, error) {
	return asked(ctx, c, Upkeep{Do: "explain", Explain: &ask})
}

// AskAudit reads or verifies the audit log.
func AskAudit(ctx context.Context, c Config, ask AuditAsk) (Kept, error) {
	return asked(ctx, c, Upkeep{Do: "audit", Audit: &ask})
}

// asked has something done by the node that runs on an embedded store, which belongs to one process; else by a node made for it.
func asked(ctx context.Context, c Config, u Upkeep) (Kept, error) {
	if c.Store == "" {
		if k, err := askNode(ctx, c.Data, u, nil); !errors.Is(err, errNoNode) {
			return k, err
		}
	}
	n, err := New(ctx, c)
	if err != nil {
		return Kept{}, err
	}
	k, err := n.does(ctx, u, nil)
	return k, errors.Join(err, n.Close())
}

func (n *Node) explainKept(ctx context.Context, ask ExplainAsk) (Kept, error) {
	if ask.User != "" { // before anybody is looked for: who is asked about may be mistyped
		if _, err := n.Access.As(ask.User); err != nil {
			return Kept{}, err
		}
	}
	if ask.Identifier != nil {
		var err error
		if ask.Person, err = n.PersonFor(ctx, ask.By, *ask.Identifier); fhir.Is(err, fhir.NotFound) {
			return Kept{}, fhir.Errorf(fhir.NotFound, "nobody on this node is known by that identifier: is it right, and of this region?")
		} else if err != nil {
			return Kept{}, err
		}
	}
	e, err := n.Explain(ctx, ask)
	if err != nil {
		return Kept{}, err
	}
	return kept(true, e.Words(ask), nil)
}

func (n *Node) auditKept(ctx context.Context, ask AuditAsk) (Kept, error) {
	switch ask.Do {
	case "verify":
		return n.auditVerified(ctx, ask)
	case "show":
		return n.auditShown(ctx, ask)
	case "head":
		return n.auditHead(ctx)
	}
	return Kept{}, fhir.Errorf(fhir.NotSupported, "the audit log cannot be asked to %q", ask.Do)
}

// auditVerified holds the log to itself, to the heads that this node published, and to those that others kept.
func (n *Node) auditVerified(ctx context.Context, ask AuditAsk) (Kept, error) {
	var heads []audit.Head
	for _, h := range ask.Heads {
		head, err := audit.ParseHead(h)
		if err != nil {
			return Kept{}, err
		}
		heads = append(heads, head)
	}
	files := ask.Files
	if own := n.HeadsFile(); own != "" {
		content, err := os.ReadFile(own)
		if err == nil {
			files = append(files, HeadsFile{own, content})
		} else if !errors.Is(err, os.ErrNotExist) {
			return Kept{}, err
		}
	}
	if len(files) > 0 && ask.Key == "" {
		k, err := n.Signer()
		if err != nil {
			return Kept{}, err
		}
		ask.Key = k.Public
	}
	for _, f := range files {
		got, err := audit.ReadHeads(bytes.NewReader(f.Content), ask.Key)
		if err != nil {
			return Kept{}, fmt.Errorf("%s: %w", f.Name, err)
		}
		heads = append(heads, got...)
	}
	rep, err := n.Audit.Verify(ctx, heads...)
	if err != nil {
		return Kept{}, err
	}
	return kept(rep.OK(), fmt.Sprintf("%s\nheld to %d published heads\n", rep, len(heads)), nil)
}

// auditShown tells who looked at somebody's record. That it was asked is remembered first, and stands in the answer's last line.
func (n *Node) auditShown(ctx context.Context, ask AuditAsk) (Kept, error) {
	used := audit.Event{Kind: audit.Verified, Agent: ask.By, PersonID: ask.Person, What: []string{"audit log: shown"}}
	if _, err := n.Audit.Append(ctx, used); err != nil {
		return Kept{}, err
	}
	looks := 0
	var b strings.Builder
	for e, err := range n.Audit.Show(ctx, ask.Person, 0, 0) {
		if err != nil {
			return Kept{}, err
		}
		look, err := e.Summary()
		if err != nil {
			return Kept{}, err
		}
		who := []string{look.Who}
		for _, s := range []string{look.Role, look.Organisation} {
			if s != "" {
				who = append(who, s)
			}
		}
		line := fmt.Sprintf("%s  %-12s %s", look.At.In(fhir.London).Format(time.DateTime), look.Kind, strings.Join(who, ", "))
		if look.Purpose != "" {
			line += " (" + look.Purpose + ")"
		}
		b.WriteString(line + "\n")
		looks++
	}
	if looks == 1 { // of somebody who is no longer here by this id there may be entries all the same: who they are is not asked
		b.WriteString("Nobody had looked before, or there is no such person: the id is that in the record's address.\n")
	}
	return kept(true, b.String(), nil)
}

// auditHead signs how far the log goes; the public key is what Data holds.
func (n *Node) auditHead(ctx context.Context) (Kept, error) {
	key, err := n.Signer()
	if err != nil {
		return Kept{}, err
	}
	head, err := n.Audit.Head(ctx)
	if err != nil {
		return Kept{}, err
	}
	msg, err := key.Sign(head)
	if err != nil {
		return Kept{}, err
	}
	return kept(true, string(msg), key.Public)
}
