package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"tombolo/fhir"
)

// An asked is what a client asked of one resource, and an answered what it was told.
type asked struct {
	ref     string
	write   bool
	value   int // of a write: unlike any other
	ifMatch int // the version that a write wants to replace; 0: whatever there is
}

type answered struct {
	version, value int // 0: there is none
	refused        bool
}

// A register is one resource as a linearizable store has it: each write makes the next version, a conditional one only of the version that it names, and a
// read sees the newest.
//
// FHIR R4 http.html#concurrency
var register = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		by := map[string][]porcupine.Operation{}
		for _, o := range history {
			ref := o.Input.(asked).ref
			by[ref] = append(by[ref], o)
		}
		var out [][]porcupine.Operation
		for _, ops := range by {
			out = append(out, ops)
		}
		return out
	},
	Init: func() any { return answered{} },
	Step: func(state, input, output any) (bool, any) {
		is, in, out := state.(answered), input.(asked), output.(answered)
		switch {
		case !in.write:
			return out == is, is
		case in.ifMatch > 0 && in.ifMatch != is.version:
			return out.refused, is
		default:
			next := answered{version: is.version + 1, value: in.value}
			return !out.refused && out.version == next.version, next
		}
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
}

// A historian has clients ask, and writes down what they were told and when.
type historian struct {
	began time.Time
	mu    sync.Mutex
	ops   []porcupine.Operation
	url   string // where the node is now
}

func (h *historian) at() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.url
}

func (h *historian) moved(url string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.url = url
}

// ask asks until there is an answer: a write always under the same key, so that it happens once. It gives up when ctx ends.
func (h *historian) ask(ctx context.Context, client, nth int, in asked) (answered, error) {
	called := time.Since(h.began)
	for {
		if !in.write {
			called = time.Since(h.began) // of a read that got no answer nothing is known, and nothing has happened
		}
		out, err := send(ctx, h.at(), fmt.Sprintf("client-%d-%d", client, nth), in)
		if err == nil {
			h.mu.Lock()
			h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: in, Call: int64(called), Output: out, Return: int64(time.Since(h.began))})
			h.mu.Unlock()
			return out, nil
		}
		if again := new(againError); !errors.As(err, &again) {
			return out, err
		}
		select {
		case <-ctx.Done():
			return out, ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// An againError is no answer: nobody can tell what became of it.
type againError struct{ error }

func send(ctx context.Context, url, key string, in asked) (answered, error) {
	method, body := http.MethodGet, []byte(nil)
	if in.write {
		method, body = http.MethodPut, fhir.New("Observation", in.ref, fhir.M{"status": "final", "code": fhir.CodeableConcept{Text: "Weight"},
			"subject": fhir.Reference{Reference: "Patient/all"}, "valueInteger": in.value}).Raw()
	}
	r, err := http.NewRequestWithContext(ctx, method, url+"/Observation/"+in.ref, bytes.NewReader(body))
	if err != nil {
		return answered{}, err
	}
	if in.write {
		r.Header.Set("Content-Type", "application/fhir+json")
		r.Header.Set("Idempotency-Key", key)
		if in.ifMatch > 0 {
			r.Header.Set("If-Match", fmt.Sprintf(`W/"%d"`, in.ifMatch))
		}
	}
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		return answered{}, &againError{err}
	}
	text, err := io.ReadAll(got.Body)
	_ = got.Body.Close()
	if err != nil {
		return answered{}, &againError{err}
	}
	switch got.StatusCode {
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		return answered{}, &againError{fmt.Errorf("%s", text)}
	case http.StatusPreconditionFailed:
		return answered{refused: true}, nil
	case http.StatusNotFound:
		return answered{}, nil
	case http.StatusOK, http.StatusCreated:
	case http.StatusConflict:
		return answered{}, &againError{fmt.Errorf("%s", text)} // others kept changing it; nothing was written
	default:
		return answered{}, fmt.Errorf("%s %s: %d %s", method, in.ref, got.StatusCode, text)
	}
	out := answered{value: in.value}
	if out.version, err = strconv.Atoi(strings.Trim(got.Header.Get("ETag"), `W/"`)); err != nil {
		return answered{}, fmt.Errorf("%s %s: ETag %q", method, in.ref, got.Header.Get("ETag"))
	}
	if in.write {
		out.value = 0 // it is the version that a write is told
		return out, nil
	}
	res, err := fhir.Parse(text)
	if err != nil {
		return answered{}, err
	}
	out.value, err = strconv.Atoi(string(res.Get("valueInteger").Raw()))
	return out, err
}

// work is one client: it reads, writes, and writes what it has read and changed, over a few resources that all clients use.
func (h *historian) work(ctx context.Context, client, n int) error {
	r := rand.New(rand.NewPCG(uint64(client), uint64(time.Now().UnixNano())))
	last := map[string]int{}
	for i := range n {
		in := asked{ref: fmt.Sprintf("shared-%d", r.IntN(3))}
		switch r.IntN(3) {
		case 0:
			in.write, in.value = true, client*1_000_000+i+1
		case 1:
			in.write, in.value, in.ifMatch = true, client*1_000_000+i+1, last[in.ref]
		}
		out, err := h.ask(ctx, client, i, in)
		if err != nil {
			return err
		}
		if out.version > 0 {
			last[in.ref] = out.version
		}
	}
	return nil
}

// What many clients are told of the same resources, while the node and its database are killed, is what a store would have told that did one
// thing after the other: versions without gaps, conditional updates of the version they name only, each request once, and no read of the past.
func TestHistoriesAreLinearizable(t *testing.T) {
	for _, engine := range engines(t) {
		t.Run(engine.name, func(t *testing.T) {
			at, server := engine.place(t)
			v := newVictim(t, at, server)
			v.node = v.start()
			h := &historian{began: time.Now(), url: v.node.URL}
			each := rounds(t, 60, 400)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			v.patient(ctx)
			var clients sync.WaitGroup
			done := make(chan struct{})
			for client := range 5 {
				clients.Go(func() {
					if err := h.work(ctx, client, each); err != nil {
						t.Errorf("client %d: %v", client, err)
					}
				})
			}
			go func() { clients.Wait(); close(done) }()
			for over := false; !over; {
				select {
				case <-done:
					over = true
				case <-time.After(time.Duration(50+v.r.IntN(250)) * time.Millisecond):
					v.kill()
					if v.node == nil {
						v.node = v.start()
						h.moved(v.node.URL)
					}
				}
			}
			began := time.Now()
			result, _ := porcupine.CheckOperationsVerbose(register, h.ops, 2*time.Minute)
			t.Logf("%d requests, killed %v: %s in %v", len(h.ops), v.died, result, time.Since(began).Round(time.Millisecond))
			if result == porcupine.Illegal {
				for _, o := range h.ops {
					t.Logf("%d: %d to %d: %+v -> %+v", o.ClientId, o.Call, o.Return, o.Input, o.Output)
				}
				t.Error("no order of these requests explains what the clients were told")
			}
			if len(h.ops) != 5*each && !t.Failed() {
				t.Errorf("%d requests were answered, want %d", len(h.ops), 5*each)
			}
		})
	}
}

// patient makes the patient whom all resources are about.
func (v *victim) patient(ctx context.Context) {
	v.t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, v.node.URL+"/Patient/all", bytes.NewReader(fhir.New("Patient", "all", fhir.M{"birthDate": "1948-03-12"}).Raw()))
	if err != nil {
		v.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/fhir+json")
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		v.t.Fatal(err)
	}
	text, _ := io.ReadAll(got.Body)
	_ = got.Body.Close()
	if got.StatusCode != http.StatusCreated {
		v.t.Fatalf("the patient: %d %s", got.StatusCode, text)
	}
}

// A check is worth something only if it notices.
func TestAHistoryThatIsNotLinearizableIsNoticed(t *testing.T) {
	op := func(client int, call, back int64, in asked, out answered) porcupine.Operation {
		in.ref = "a"
		return porcupine.Operation{ClientId: client, Call: call, Return: back, Input: in, Output: out}
	}
	write := func(value, ifMatch int) asked { return asked{write: true, value: value, ifMatch: ifMatch} }
	for name, history := range map[string][]porcupine.Operation{
		"a lost update":     {op(1, 0, 1, write(7, 0), answered{version: 1}), op(2, 2, 3, asked{}, answered{})},
		"the past":          {op(1, 0, 1, write(7, 0), answered{version: 1}), op(1, 2, 3, write(8, 0), answered{version: 2}), op(2, 4, 5, asked{}, answered{version: 1, value: 7})},
		"twice":             {op(1, 0, 1, write(7, 0), answered{version: 1}), op(2, 2, 3, asked{}, answered{version: 2, value: 7})},
		"both had the same": {op(1, 0, 1, write(7, 0), answered{version: 1}), op(1, 2, 9, write(8, 1), answered{version: 2}), op(2, 2, 9, write(9, 1), answered{version: 2})},
		"one version twice": {op(1, 0, 9, write(7, 0), answered{version: 1}), op(2, 0, 9, write(8, 0), answered{version: 1})},
	} {
		if porcupine.CheckOperations(register, history) {
			t.Errorf("%s was not noticed", name)
		}
	}
	good := []porcupine.Operation{op(1, 0, 1, write(7, 0), answered{version: 1}), op(1, 2, 9, write(8, 1), answered{version: 2}), op(2, 2, 9, write(9, 1), answered{refused: true}),
		op(3, 2, 9, asked{}, answered{version: 1, value: 7})}
	if !porcupine.CheckOperations(register, good) {
		t.Error("a good history was found fault with")
	}
}
