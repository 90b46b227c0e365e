package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"tombolo/audit"
	"tombolo/policy"
	"tombolo/region"
	"tombolo/store"
)

// agreedBucket keeps every version of what was agreed, by the time from which it was in force: <RFC 3339> -> adoption.
const agreedBucket = "agreed"

// rereadEvery is how often the region file is looked at again: several times within the minute in which a change must be in force.
const rereadEvery = 10 * time.Second

// An adoption is one version of the file that was in force from a time on.
type adoption struct {
	Version string    `json:"version"`
	Author  string    `json:"author"`
	Reason  string    `json:"reason,omitempty"`
	Sum     string    `json:"sha256"`
	At      time.Time `json:"at"`
	File    []byte    `json:"file"`
}

// agreed is what has been agreed, read again from the region file while the node runs. It changes whole or not at all; while what the file
// says cannot be taken, what was in force is confirmed no more, and after policy.MaxStale nothing is permitted.
type agreed struct {
	n    *Node
	path string
	now  atomic.Pointer[inForce]
}

type inForce struct {
	region    *region.Region
	sensitive *policy.Sensitivity
	data      policy.Data
	sum       string
	lists     string // which code lists lay in their folder
}

// InForce implements gather.Agreed.
func (a *agreed) InForce() (*region.Region, *policy.Sensitivity, policy.Data) {
	f := a.now.Load()
	return f.region, f.sensitive, f.data
}

// agree begins with the region as it was read at the start. Without a file, nothing can change.
func (n *Node) agree(ctx context.Context) (*agreed, error) {
	sensitive, err := sensitivity(n.c.Region, n.c.Folder)
	if err != nil {
		return nil, err
	}
	a := &agreed{n: n, path: n.c.File}
	f := &inForce{region: n.c.Region, sensitive: sensitive, data: policy.Data{Version: dataVersion(n.c.Region)}}
	if f.lists, err = listsIn(listFolder(n.c.Region, n.c.Folder)); err != nil {
		return nil, err
	}
	if a.path != "" {
		raw, err := os.ReadFile(a.path)
		if err != nil {
			return nil, err
		}
		f.sum, f.data.Read = sumOf(raw), n.c.Now()
		if err := a.record(ctx, f, raw, nil); err != nil {
			return nil, err
		}
	}
	a.now.Store(f)
	return a, nil
}

// sensitivity puts the built-in code lists together with those that the region file names.
func sensitivity(r *region.Region, folder string) (*policy.Sensitivity, error) {
	lists := policy.BuiltInLists()
	if dir := listFolder(r, folder); dir != "" {
		more, err := policy.ReadLists(os.DirFS(dir))
		if err != nil {
			return nil, fmt.Errorf("the sensitive code lists cannot be read: %w", err)
		}
		lists = append(lists, more...)
	}
	return policy.NewSensitivity(lists, r.Policy.Sensitive), nil
}

// listFolder is where the region's own code lists lie, "" if it has none.
func listFolder(r *region.Region, folder string) string {
	dir := r.Policy.CodeLists
	if dir != "" && !filepath.IsAbs(dir) {
		dir = filepath.Join(folder, dir)
	}
	return dir
}

// listsIn tells one state of the folder from another, by what lies in it, how large it is and when it was written: a release is too large to be read every few seconds.
func listsIn(dir string) (string, error) {
	if dir == "" {
		return "", nil
	}
	sum := sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(sum, "%s\x00%d\x00%d\x00", path, info.Size(), info.ModTime().UnixNano())
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("the sensitive code lists cannot be read: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func sumOf(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// dataVersion names what has been agreed: by the version that the file gives, and by what it says, so that no two are taken for one.
func dataVersion(r *region.Region) string {
	v := sumOf([]byte(policy.Agreed(r)))[:12]
	if r.Policy.Version != "" {
		v = r.Policy.Version + "@" + v
	}
	return v
}

// keepUp reads the file again until ctx ends.
func (a *agreed) keepUp(ctx context.Context) {
	tick := time.NewTicker(rereadEvery)
	defer tick.Stop()
	told := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := a.reread(ctx)
		switch {
		case err == nil && told != "":
			a.n.c.Logger.Info("the region file is in order again", "file", a.path)
			told = ""
		case err != nil && err.Error() != told && ctx.Err() == nil:
			told = err.Error()
			a.n.c.Logger.Error("what has been agreed cannot be confirmed: nothing is shown to anybody after a minute, until the region file is put right", "file", a.path, "error", err)
		}
	}
}

// reread looks at the file once. What it finds is in force when it returns nil.
func (a *agreed) reread(ctx context.Context) error {
	raw, err := os.ReadFile(a.path)
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			return pe.Err
		}
		return err
	}
	was := a.now.Load()
	next := *was
	next.data.Read = a.n.c.Now()
	if next.sum = sumOf(raw); next.sum == was.sum {
		return a.relist(ctx, was, &next)
	}
	r, problems := region.Load(a.path)
	for _, p := range problems {
		if p.Severity == region.Error {
			return errors.New(p.String())
		}
	}
	if next.lists, err = listsIn(listFolder(r, filepath.Dir(a.path))); err != nil {
		return err
	}
	if next.sensitive, err = sensitivity(r, filepath.Dir(a.path)); err != nil {
		return err
	}
	diff := policy.Diff(was.region, r)
	if len(diff) > 0 && (r.Policy.Version == "" || r.Policy.Version == was.region.Policy.Version || r.Policy.Author == "") {
		return fmt.Errorf("what is agreed was changed in %d lines under the version %q that was in force before: give the change a policy.version of its own, and say in policy.author who answers for it", len(diff), r.Policy.Version)
	}
	next.region, next.data.Version = r, dataVersion(r)
	if err := a.record(ctx, &next, raw, diff); err != nil {
		return err
	}
	a.now.Store(&next)
	a.n.c.Logger.Info("what has been agreed was changed", "version", r.Policy.Version, "lines", len(diff))
	return nil
}

// relist takes the code lists anew if others lie in their folder than did. Which they are is in the audit log before they are in force; while they cannot be read, what was
// in force is confirmed no more.
func (a *agreed) relist(ctx context.Context, was, next *inForce) (err error) {
	folder := filepath.Dir(a.path)
	if next.lists, err = listsIn(listFolder(was.region, folder)); err != nil {
		return err
	}
	if next.lists != was.lists {
		if next.sensitive, err = sensitivity(was.region, folder); err != nil {
			return err
		}
		what := append([]string{"agreed: version " + was.data.Version, "code lists: others lie in their folder"}, was.sensitive.Compare(next.sensitive)...)
		if _, err := a.n.Audit.Append(ctx, audit.Event{Kind: audit.Policy, Agent: audit.Agent{User: "code-lists", Name: "the folder of code lists"}, What: what}); err != nil {
			return err
		}
		a.n.c.Logger.Info("the sensitive code lists were changed", "version", next.sensitive.Version())
	}
	a.now.Store(next)
	return nil
}

// record remembers a version with its diff and author, in the audit log and by itself, before it is in force. One that was the last recorded is
// not recorded again.
func (a *agreed) record(ctx context.Context, f *inForce, raw []byte, diff []string) error {
	last, err := a.last(ctx, time.Time{})
	if err != nil {
		return err
	}
	if last != nil && last.Sum == f.sum {
		return nil
	}
	if diff == nil && last != nil {
		if was, problems := region.Parse(a.path, last.File); !region.Broken(problems) {
			diff = policy.Diff(was, f.region)
		}
	}
	p := f.region.Policy
	what := append([]string{"agreed: version " + f.data.Version, "author: " + p.Author, "reason: " + p.Reason}, diff...)
	if _, err := a.n.Audit.Append(ctx, audit.Event{Kind: audit.Policy, Agent: audit.Agent{User: "region-file", Name: p.Author}, What: what}); err != nil {
		return err
	}
	at := f.data.Read.UTC()
	value, err := json.Marshal(adoption{Version: p.Version, Author: p.Author, Reason: p.Reason, Sum: f.sum, At: at, File: raw})
	if err != nil {
		return err
	}
	_, err = a.n.store.Update(ctx, func(tx store.Tx) error {
		tx.Bucket(agreedBucket).Put(at.Format("2006-01-02T15:04:05.000000000Z"), value)
		return nil
	})
	return err
}

// last is the version that was in force at a time, the newest if the time is zero; nil if none is known.
func (a *agreed) last(ctx context.Context, at time.Time) (*adoption, error) {
	var found *adoption
	for item, err := range a.n.store.View(agreedBucket).Scan(ctx, "") {
		if err != nil {
			return nil, err
		}
		var ad adoption
		if err := json.Unmarshal(item.Value, &ad); err != nil {
			return nil, err
		}
		if at.IsZero() || !ad.At.After(at) {
			found = &ad
		}
	}
	return found, nil
}
