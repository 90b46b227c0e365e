package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"tombolo/audit"
	"tombolo/fhir"
	"tombolo/region"
	"tombolo/store"
	"tombolo/watch"
)

// How often the log's head is written down, and the neighbours' looked at; and what was shown, dropped when its retention is over.
const (
	publishEvery = time.Minute
	feedEvery    = 5 * time.Second
	witnessEvery = time.Minute
	forgetEvery  = 24 * time.Hour
	// DefaultKeepShown is how many months the content of what was shown is kept: eight years, as records of adults are. NHS Records
	// Management Code of Practice, Appendix II
	DefaultKeepShown = 96
)

// auditKey is where the key lies that signs the heads.
func (n *Node) auditKey() string { return filepath.Join(n.c.Data, "audit.key") }

// HeadsFile is where this node's signed heads are written; "" if it has no data folder.
func (n *Node) HeadsFile() string {
	if n.c.Data == "" {
		return ""
	}
	return filepath.Join(n.c.Data, "heads", n.c.Region.ID+".heads")
}

// Signer is the key that signs the audit log's heads; made the first time.
func (n *Node) Signer() (audit.Key, error) {
	if n.c.Data == "" {
		return audit.Key{}, fhir.Errorf(fhir.Required, "the key that signs the audit log's heads lies in the data folder: give --data DIR")
	}
	return audit.LoadKey(n.auditKey(), n.c.Region.ID)
}

// trust makes what watches over the audit log and is offered of it to others.
func (n *Node) trust() error {
	o := watch.Options{Log: n.Audit, Store: n.store, People: n.People, Region: n.c.Region, Now: n.c.Now, Logger: n.c.Logger}
	var err error
	if o.Staff, err = fromFile(n, n.c.Region.Audit.Staff, watch.ReadStaff); err != nil {
		return err
	}
	if o.VIPs, err = fromFile(n, n.c.Region.Audit.Watched, watch.ReadNumbers); err != nil {
		return err
	}
	o.Turn = n.lease("watch").Holds
	n.Watch = watch.New(o)
	if n.c.Listen != "" && n.c.Region.Audit.Feed != "" {
		if n.auditFeed, err = n.feed(); err != nil {
			return err
		}
		n.keepers = append(n.keepers, keeper{feedEvery, "send the audit log to its repository", inTurn(n.lease("audit-feed"), n.auditFeed.some)})
	}
	if n.c.Data == "" || n.c.Listen == "" {
		return nil // a command, or a node without a folder of its own: others sign
	}
	key, err := n.Signer()
	if err != nil {
		return err
	}
	n.heads = audit.Handler(n.Audit, key)
	n.keepers = append(n.keepers,
		keeper{publishEvery, "publish the audit log's head", func(ctx context.Context) error { return n.Audit.Publish(ctx, key, n.HeadsFile()) }},
		keeper{forgetEvery, "drop what was shown beyond its retention", inTurn(n.lease("forget"), func(ctx context.Context) error {
			_, err := n.Audit.Forget(ctx, n.c.Now().AddDate(0, -n.keepShown(), 0), audit.Agent{User: "tombolo", Name: "Tombolo"})
			return err
		})})
	for _, nb := range n.c.Region.Neighbours {
		told := ""
		client, err := n.asking(nb.TLS)
		if err != nil {
			return fmt.Errorf("neighbour %s: tls: %w", nb.ID, err)
		}
		witness := &audit.Witness{Dir: filepath.Join(n.c.Data, "witness"), HTTP: client}
		n.keepers = append(n.keepers, keeper{witnessEvery, "keep the audit head of " + nb.ID, func(ctx context.Context) error {
			err := witness.Look(ctx, nb.ID, nb.Address)
			if errors.Is(err, audit.ErrRewritten) && told != err.Error() && n.tellOfRewriting(ctx, nb.ID, err) {
				told = err.Error()
			}
			return err
		}})
	}
	return nil
}

// keepShown is for how many months the content of what was shown is kept.
func (n *Node) keepShown() int {
	if months, err := strconv.Atoi(n.c.Region.Audit.Keep); err == nil && months > 0 {
		return months
	}
	return DefaultKeepShown
}

// fromFile reads a file that the region file names; nothing if it names none.
func fromFile[T any](n *Node, path string, read func(io.Reader) ([]T, error)) ([]T, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(n.path(path))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	out, err := read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return out, nil
}

const (
	feedBucket = "audit-feed"
	feedCursor = "cursor"
)

type feed struct{ audit.Feed }

// feed sends the audit log to the repository that the region file names: FHIR over HTTP, or DICOM messages by syslog over TLS.
func (n *Node) feed() (*feed, error) {
	a := n.c.Region.Audit
	f := &feed{audit.Feed{Log: n.Audit}}
	if address, ok := strings.CutPrefix(a.Feed, region.SyslogTLS); ok {
		keys, err := n.keys(a.TLS)
		if err != nil {
			return nil, err
		}
		to := &audit.Syslog{Address: address, Node: n.c.Region.ID, TLS: keys.Client}
		if n.watch != nil {
			to.Saw = n.watch.Audited
		}
		f.To = to
	} else {
		c, err := n.asking(a.TLS)
		if err != nil {
			return nil, err
		}
		to := audit.FHIR{URL: a.Feed, HTTP: c}
		if a.Token != "" {
			to.Token = n.c.Secret(a.Token)
		}
		f.To = to
	}
	f.Load = func(ctx context.Context) (audit.Seq, error) {
		v, ok, err := n.store.View(feedBucket).Get(ctx, feedCursor)
		if err != nil || !ok {
			return 0, err
		}
		s, err := strconv.ParseUint(string(v), 10, 64)
		return audit.Seq(s), err
	}
	f.Save = func(ctx context.Context, s audit.Seq) error {
		_, err := n.store.Update(ctx, func(tx store.Tx) error {
			tx.Bucket(feedBucket).Put(feedCursor, strconv.AppendUint(nil, uint64(s), 10))
			return nil
		})
		return err
	}
	return f, nil
}

// some sends what is left to send, at most for as long as the turn surely lasts.
func (f *feed) some(ctx context.Context) error {
	for start := time.Now(); time.Since(start) < leaseTime/3; {
		if n, err := f.Step(ctx); n == 0 || err != nil {
			return err
		}
	}
	return nil
}

// A keeper is something done again and again in the background. What fails is tried again at its next turn.
type keeper struct {
	every time.Duration
	what  string
	do    func(context.Context) error
}

// inTurn does something only while it is this node's turn.
func inTurn(l *lease, do func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		if mine, err := l.Holds(ctx); err != nil || !mine {
			return err
		}
		return do(ctx)
	}
}

// lease is this node's part in a task that one of the nodes on a database does for all.
func (n *Node) lease(what string) *lease {
	l := &lease{what: what, holder: n.name, now: n.c.Now}
	if n.c.Store != "" {
		l.db = n.store
	}
	return l
}

func (n *Node) keep(ctx context.Context, k keeper) {
	for {
		if err := k.do(ctx); err != nil && ctx.Err() == nil {
			n.c.Logger.Warn("could not "+k.what+", and will try again", "after", k.every, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(k.every):
		}
	}
}

// tellOfRewriting remembers that a neighbour's log is not the one whose head was kept, and reports whether it could.
func (n *Node) tellOfRewriting(ctx context.Context, id string, rewritten error) bool {
	n.c.Logger.Error("a neighbour's audit log was rewritten or cut: keep the folder witness as it is, and ask them", "neighbour", id, "error", rewritten)
	_, err := n.Audit.Append(ctx, audit.Event{Kind: audit.Alert, Agent: audit.Agent{User: "tombolo", Name: "Tombolo"}, What: []string{"neighbour: " + id, "reason: " + rewritten.Error()}})
	return err == nil
}

// auditPages offers the head, the key and the proofs, if this node signs.
func (n *Node) auditPages(mux *http.ServeMux) {
	if n.heads != nil {
		mux.Handle("/audit/", n.heads)
	}
}
