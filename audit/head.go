package audit

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"tombolo/fhir"
)

// A Key signs the heads of one node's log. Its public half goes to whoever keeps them.
type Key struct {
	Public string // as note writes it: name+hash+base64
	signer note.Signer
}

// Origin is the name under which a node's log is known: the first line of its heads.
func Origin(node string) string { return "tombolo/audit/" + strings.Map(noteName, node) }

// noteName keeps what a note's name may hold. golang.org/x/mod/sumdb/note
func noteName(c rune) rune {
	if c <= ' ' || c == '+' || c == '/' {
		return '-'
	}
	return c
}

// LoadKey reads the node's key from a file that only its owner may read, or makes both the first time.
func LoadKey(path, node string) (Key, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return newKey(path, node)
	}
	if err != nil {
		return Key{}, fmt.Errorf("read the audit key: %w", err)
	}
	secret, public, ok := strings.Cut(strings.TrimSpace(string(b)), "\n")
	signer, err := note.NewSigner(secret)
	if err != nil || !ok {
		return Key{}, fmt.Errorf("%s is not an audit key: restore it from a backup; with a new one, heads that others keep can no longer be shown to be this log's", path)
	}
	if signer.Name() != Origin(node) {
		return Key{}, fmt.Errorf("%s is the audit key of %s, not of %s: was the region's id changed?", path, signer.Name(), Origin(node))
	}
	return Key{public, signer}, nil
}

func newKey(path, node string) (Key, error) {
	secret, public, err := note.GenerateKey(rand.Reader, Origin(node))
	if err != nil {
		return Key{}, fmt.Errorf("make the audit key: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return Key{}, fmt.Errorf("make the audit key: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return Key{}, fmt.Errorf("keep the audit key: %w", err)
	}
	_, err = f.WriteString(secret + "\n" + public + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return Key{}, fmt.Errorf("keep the audit key: %w", err)
	}
	signer, err := note.NewSigner(secret)
	return Key{public, signer}, err
}

// Sign writes the log's head as a signed checkpoint: its name, how many entries, the root of the tree. c2sp.org/tlog-checkpoint
func (k Key) Sign(h Head) ([]byte, error) {
	root := h.Hash
	if h.Seq == 0 {
		root = (&tree{}).root()
	}
	text := fmt.Sprintf("%s\n%d\n%s\n", k.signer.Name(), h.Seq, base64.StdEncoding.EncodeToString(root[:]))
	return note.Sign(&note.Note{Text: text}, k.signer)
}

// OpenHead reads a signed head and checks that the holder of the public key signed it.
func OpenHead(msg []byte, public string) (Head, error) {
	v, err := note.NewVerifier(strings.TrimSpace(public))
	if err != nil {
		return Head{}, fhir.Errorf(fhir.ValueError, "not the public key of an audit log: it looks like tombolo/audit/NAME+HASH+BASE64")
	}
	n, err := note.Open(msg, note.VerifierList(v))
	if err != nil {
		return Head{}, fhir.Errorf(fhir.BusinessRule, "a head that claims to be of %s is not signed with its key: it is another log's, or the key was changed, or the head was", v.Name())
	}
	lines := strings.SplitN(n.Text, "\n", 4)
	if len(lines) < 3 || lines[0] != v.Name() {
		return Head{}, fhir.Errorf(fhir.Structure, "a signed note that is not the head of an audit log")
	}
	size, err := strconv.ParseUint(lines[1], 10, 62)
	root, rerr := tlog.ParseHash(lines[2])
	if err != nil || rerr != nil {
		return Head{}, fhir.Errorf(fhir.Structure, "a signed note that is not the head of an audit log")
	}
	if size == 0 {
		return Head{}, nil
	}
	return Head{Seq(size), root}, nil
}

// KeepHead adds a signed head to the end of a file of them, durably.
func KeepHead(path string, msg []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("keep a head: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("keep a head: %w", err)
	}
	_, err = f.Write(msg)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("keep a head: %w", err)
	}
	return nil
}

// ReadHeads reads a file of signed heads: of one log, one behind the other, as KeepHead wrote them. All must be signed with the key.
func ReadHeads(r io.Reader, public string) ([]Head, error) {
	var out []Head
	var msg bytes.Buffer
	signed := false
	take := func() error {
		if msg.Len() == 0 {
			return nil
		}
		h, err := OpenHead(msg.Bytes(), public)
		if err != nil {
			return err
		}
		out = append(out, h)
		msg.Reset()
		signed = false
		return nil
	}
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		line := sc.Text()
		signature := strings.HasPrefix(line, "— ")
		if signed && !signature {
			if err := take(); err != nil {
				return nil, err
			}
		}
		signed = signed || signature
		msg.WriteString(line + "\n")
	}
	if err := sc.Err(); err != nil {
		return nil, fhir.Errorf(fhir.Structure, "the file of heads cannot be read: %w", err)
	}
	return out, take()
}

// lastHead is the newest head in a file of them, nil if there is no such file yet.
func lastHead(path, public string) (*Head, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	heads, err := ReadHeads(f, public)
	if err != nil || len(heads) == 0 {
		return nil, err
	}
	return &heads[len(heads)-1], nil
}

// Publish signs the log's head and adds it to a file, which should lie where somebody else keeps it, if the log has grown since the last
// one in there.
func (l *Log) Publish(ctx context.Context, k Key, path string) error {
	head, err := l.Head(ctx)
	if err != nil {
		return err
	}
	last, err := lastHead(path, k.Public)
	if err != nil || last != nil && *last == head {
		return err
	}
	msg, err := k.Sign(head)
	if err != nil {
		return err
	}
	return KeepHead(path, msg)
}
