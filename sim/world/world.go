// Package world puts the whole simulated region together in one process: the systems, each serving its real protocol on a real
// socket, a node that joins them, a neighbouring region's node, and the cast sent through every feed. The demo, its check and the
// end-to-end tests are all this.
package world

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tombolo/node"
	"tombolo/region"
	"tombolo/sim"
	"tombolo/sim/acute"
	"tombolo/sim/ambulance"
	"tombolo/sim/cast"
	"tombolo/sim/community"
	"tombolo/sim/council"
	"tombolo/sim/mental"
	"tombolo/sim/practice"
)

// Options of a World. Zero options work.
type Options struct {
	Dir       string // where everything is kept; a temporary folder, removed by Close, if ""
	Listen    string // of the node; a free port on loopback if ""
	Seed      uint64
	People    int  // generated ones beside the dozen
	Neighbour bool // start the neighbouring region too
	National  bool // and what stands for the national services: PDS and the record locator
	Logger    *slog.Logger
	Now       func() time.Time
	Version   string
	Also      string                   // further blocks of the region file, such as identity
	Secret    func(name string) string // secrets that they name
	Mark      func([]cast.Person)      // changes the cast before anything is sent, to follow what becomes of it
}

// A World is the running region.
type World struct {
	Node      *node.Node
	Neighbour *node.Node // nil if there is none
	People    []cast.Person
	Faults    map[string]*sim.Faults // by source
	Region    []byte                 // the region file

	nationals *nationals // nil if there are none
	o         Options
	temporary bool
	servers   []*http.Server
	reserved  []func() // releases each address that was reserved
	stop      context.CancelFunc
	stopped   chan struct{}
}

// Start brings the region up and returns when every feed has sent all it has and it can be found. On an error everything is undone.
func Start(ctx context.Context, o Options) (w *World, err error) {
	w = &World{o: o, Faults: map[string]*sim.Faults{}}
	defer func() {
		if err != nil {
			_ = w.Close()
		}
	}()
	if err := w.defaults(); err != nil {
		return w, err
	}
	w.People = append(cast.Dozen(w.o.Now()), cast.Generate(w.o.Seed, w.o.People, w.o.Now())...)
	if w.o.Mark != nil {
		w.o.Mark(w.People)
	}
	for _, org := range cast.Organisations {
		w.Faults[org.Source] = &sim.Faults{}
	}
	a, err := w.sources()
	if err != nil {
		return w, err
	}
	if w.o.National {
		if err := w.startNationals(&a); err != nil {
			return w, err
		}
	}
	ctx, w.stop = context.WithCancel(ctx)
	if w.o.Neighbour {
		if a.Neighbour, err = w.startNeighbour(ctx); err != nil {
			return w, err
		}
	}
	if err := w.startNode(ctx, a); err != nil {
		return w, err
	}
	return w, w.send(ctx, a)
}

func (w *World) defaults() (err error) {
	if w.o.Now == nil {
		w.o.Now = time.Now
	}
	if w.o.Logger == nil {
		w.o.Logger = slog.New(slog.DiscardHandler)
	}
	if w.o.Listen == "" || strings.HasSuffix(w.o.Listen, ":0") { // others must know the address before the node is there
		if w.o.Listen, err = w.address(); err != nil {
			return err
		}
	}
	at, err := net.ResolveTCPAddr("tcp", w.o.Listen)
	if err != nil {
		return err
	}
	w.o.Listen = at.String()
	if w.o.Dir == "" {
		w.temporary = true
		w.o.Dir, err = os.MkdirTemp("", "tombolo-demo-")
	}
	return err
}

// sources starts the systems that are asked live, and finds addresses for those that send.
func (w *World) sources() (a sim.Addresses, err error) {
	if a.Practice1, err = w.serve(practice.New(practice.Options{Source: cast.GP1, ASID: "999000000101", People: w.People, Faults: w.Faults[cast.GP1], Now: w.o.Now})); err != nil {
		return a, err
	}
	if a.Practice2, err = w.serve(practice.New(practice.Options{Source: cast.GP2, ASID: "999000000102", People: w.People, Faults: w.Faults[cast.GP2], Now: w.o.Now})); err != nil {
		return a, err
	}
	if a.Mental, err = w.serve(mental.New(mental.Options{Token: "demo-mental-health", People: w.People, Faults: w.Faults[cast.Mental], Now: w.o.Now})); err != nil {
		return a, err
	}
	for _, at := range []*string{&a.MLLP, &a.Documents, &a.CommunityHTTP} {
		if *at, err = w.address(); err != nil {
			return a, err
		}
	}
	a.CommunityDrop = filepath.Join(w.o.Dir, "drop-community")
	a.CouncilDrop = filepath.Join(w.o.Dir, "drop-council")
	a.RegisterDrop = filepath.Join(w.o.Dir, "drop-register")
	a.HTMLRoot, a.DocumentsRoot, a.AppointmentsRoot = practice.HTMLRoot, practice.DocumentsRoot, practice.AppointmentsRoot
	a.CitizenNHS = w.Person(cast.Main).NHS
	return a, nil
}

// serve puts a simulated source on a socket and gives its base URL.
func (w *World) serve(h http.Handler) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	w.servers = append(w.servers, s)
	go func() { _ = s.Serve(l) }()
	return "http://" + l.Addr().String(), nil
}

// address is one that the node listens at later, as the region file says.
func (w *World) address() (string, error) {
	addr, release, err := sim.ReserveAddress()
	if err == nil {
		w.reserved = append(w.reserved, release)
	}
	return addr, err
}

func (w *World) startNode(ctx context.Context, a sim.Addresses) (err error) {
	w.Region = append(sim.Region(a), w.o.Also...)
	if err := errors.Join(
		os.WriteFile(filepath.Join(w.o.Dir, "severn.yaml"), w.Region, 0o600),
		os.WriteFile(filepath.Join(w.o.Dir, "register.yaml"), registerMapping, 0o600),
	); err != nil {
		return err
	}
	r, problems := region.Parse("severn.yaml", w.Region)
	for _, p := range problems {
		if p.Severity == region.Error {
			return fmt.Errorf("the simulated region's own file is wrong: %s", p)
		}
	}
	w.Node, err = node.New(ctx, node.Config{Region: r, Folder: w.o.Dir, File: filepath.Join(w.o.Dir, "severn.yaml"), Data: filepath.Join(w.o.Dir, "severn"), Listen: w.o.Listen, Demo: true, Feeds: true,
		Logger: w.o.Logger, Now: w.o.Now, Version: w.o.Version, Beside: map[string]http.Handler{"/sim": w.switchboard()}, Secret: w.secret})
	if err != nil {
		return err
	}
	w.stopped = make(chan struct{})
	go func() {
		defer close(w.stopped)
		if err := w.Node.Run(ctx); err != nil {
			w.o.Logger.Error("the node stopped", "error", err)
		}
	}()
	return nil
}

// secret is one of those that Options name.
func (w *World) secret(name string) string {
	if name == locatorToken && w.nationals != nil {
		return tokenThere
	}
	if w.o.Secret == nil {
		return ""
	}
	return w.o.Secret(name)
}

// send has every feed send all it has, each in its own way, and waits until the node has taken it in.
func (w *World) send(ctx context.Context, a sim.Addresses) error {
	if err := os.MkdirAll(a.RegisterDrop, 0o700); err != nil {
		return err
	}
	night := []func() error{
		func() error {
			_, err := acute.New(acute.Options{Addr: a.MLLP, People: w.People, Faults: w.Faults[cast.Acute], Now: w.o.Now}).Send(ctx)
			return named("acute trust", err)
		},
		func() error {
			_, err := ambulance.New(ambulance.Options{Address: "http://" + a.Documents, People: w.People, Faults: w.Faults[cast.Ambulance], Now: w.o.Now}).Send(ctx)
			return named("ambulance service", err)
		},
		func() error {
			s, err := community.New(community.Options{Drop: a.CommunityDrop, People: w.People, Faults: w.Faults[cast.Community], Now: w.o.Now})
			if err == nil {
				err = s.Write(ctx)
			}
			return named("community provider", err)
		},
		func() error {
			s, err := council.New(council.Options{Drop: a.CouncilDrop, People: w.People, Faults: w.Faults[cast.Council], Now: w.o.Now})
			if err == nil {
				err = s.Write(ctx)
			}
			return named("council", err)
		},
		func() error { return named("register", writeRegister(a.RegisterDrop, w.People)) },
	}
	done := make(chan error, len(night))
	for _, send := range night {
		go func() { done <- send() }()
	}
	var errs []error
	for range night {
		errs = append(errs, <-done)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, drop := range []string{a.CommunityDrop, a.CouncilDrop, a.RegisterDrop} {
		if err := emptied(ctx, drop); err != nil {
			return err
		}
	}
	return nil
}

func named(who string, err error) error {
	if err != nil {
		return fmt.Errorf("the simulated %s could not send: %w", who, err)
	}
	return nil
}

// emptied waits until the node has taken every file out of a drop folder.
func emptied(ctx context.Context, drop string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		left := 0
		entries, err := os.ReadDir(drop)
		if err != nil {
			return err
		}
		for _, e := range entries {
			switch e.Name() {
			case "done", "failed", "documents":
			case "working":
				inside, _ := os.ReadDir(filepath.Join(drop, e.Name()))
				left += len(inside)
			default:
				left++
			}
		}
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the node has not taken the files in %s: %w", filepath.Base(drop), ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Person of the cast by key; the program's own mistake if there is none.
func (w *World) Person(key string) cast.Person {
	for _, p := range w.People {
		if p.Key == key {
			return p
		}
	}
	panic("world: nobody in the cast is called " + key)
}

// Dir is the folder in which everything is kept.
func (w *World) Dir() string { return w.o.Dir }

// URL is the node's address.
func (w *World) URL() string { return "http://" + w.Node.Addr() }

// Close stops everything and removes what was temporary.
func (w *World) Close() error {
	if w.stop != nil {
		w.stop()
	}
	if w.stopped != nil {
		<-w.stopped
	}
	var errs []error
	for _, n := range []*node.Node{w.Node, w.Neighbour} {
		if n != nil {
			errs = append(errs, n.Close())
		}
	}
	for _, s := range w.servers {
		errs = append(errs, s.Close())
	}
	for _, release := range w.reserved {
		release()
	}
	if w.temporary {
		errs = append(errs, os.RemoveAll(w.o.Dir))
	}
	return errors.Join(errs...)
}
