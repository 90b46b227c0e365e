package fhirpath

import (
	"sync"
	"time"

	"tombolo/fhir"
)

// Limits bounds what one evaluation may cost. The zero value is Default.
type Limits struct {
	Steps int // elements looked at, and values compared
	Items int // in the collections that are held at one time
	Text  int // bytes of a text that is put together
}

// Default is the limit of an evaluation: some tenths of a second's work.
var Default = Limits{Steps: 1_000_000, Items: 200_000, Text: 1 << 20}

// An Env is what an evaluation may know beside the item it begins at. Nil is an Env that knows nothing.
type Env struct {
	Resource Item            // %resource; the item itself if none is given
	Root     Item            // %rootResource, of which a contained resource is part; Resource if none is given
	Vars     map[string]Item // %name
	Now      time.Time       // of now(), today() and timeOfDay(); the clock's if zero

	// Resolve finds the resource that a reference names and that is not contained or in the same Bundle; absent if it is not known.
	Resolve func(reference string) fhir.Value
	// MemberOf reports whether a code, Coding or CodeableConcept is in a value set; known is false where that cannot be told.
	MemberOf func(valueSet string, of Item) (in, known bool)
	// ConformsTo reports whether a resource or element conforms to a profile; known is false of profiles not known here. Types of R4 are not asked for.
	ConformsTo func(profile string, of Item) (conforms, known bool)
	// Trace is told what passes trace(), which is content: never for a log. May be nil.
	Trace func(name string, items []Item)

	Limits Limits
}

// A run is one evaluation. Nodes push their results on its stack, each above what its caller has there.
type run struct {
	env   *Env
	model *model
	stack []Item
	steps int
	items int
	text  int

	root   []Item // %context
	this   []Item // $this
	index  int64  // $index; -1 if there is none
	total  []Item // $total
	vars   map[string][]Item
	now    time.Time
	locals int // of defineVariable that stand
}

var runs = sync.Pool{New: func() any { return &run{stack: make([]Item, 0, 64)} }}

var noEnv = &Env{}

// start makes a run that begins at an item; finish gives it back.
func (e *Expr) start(it Item, env *Env) *run {
	if env == nil {
		env = noEnv
	}
	limits := env.Limits
	if limits == (Limits{}) {
		limits = Default
	}
	r := runs.Get().(*run)
	*r = run{env: env, model: fhirModel(), stack: r.stack[:0], steps: limits.Steps, items: limits.Items, text: limits.Text, index: -1}
	r.stack = append(r.stack, it)
	r.root = r.stack[:1:1]
	r.this = r.root
	return r
}

func (r *run) finish() {
	if cap(r.stack) > 512 {
		r.stack = nil
	}
	clear(r.stack[:cap(r.stack)])
	*r = run{stack: r.stack[:0]}
	runs.Put(r)
}

// Eval gives the collection that the expression yields on an item. What costs more than the limits is TooCostly; what FHIRPath calls an error is Processing.
func (e *Expr) Eval(it Item, env *Env) ([]Item, error) {
	r := e.start(it, env)
	defer r.finish()
	if err := e.root.eval(r); err != nil {
		return nil, err
	}
	if len(r.stack) == 1 {
		return nil, nil
	}
	return append([]Item(nil), r.stack[1:]...), nil
}

// Holds reports whether the expression is true of an item, as a constraint has to be: an empty collection is not true, and an item that is no Boolean is. FHIRPath §4.5
func (e *Expr) Holds(it Item, env *Env) (bool, error) {
	r := e.start(it, env)
	defer r.finish()
	if err := e.root.eval(r); err != nil {
		return false, err
	}
	if len(r.stack) > 2 {
		return false, fault("it gives several items, and is to be true or false")
	}
	if len(r.stack) < 2 {
		return false, nil
	}
	truth, isBool := r.stack[1].Bool()
	return truth || !isBool, nil
}

func fault(format string, args ...any) error {
	return fhir.Errorf(fhir.Processing, "the FHIRPath expression cannot be evaluated: "+format, args...)
}

func (r *run) push(it Item) error {
	if r.steps--; r.steps < 0 {
		return fhir.Errorf(fhir.TooCostly, "the FHIRPath expression takes too many steps on this resource")
	}
	if len(r.stack) >= r.items {
		return fhir.Errorf(fhir.TooCostly, "the FHIRPath expression gathers too many items of this resource")
	}
	r.stack = append(r.stack, it)
	return nil
}

// step counts work that pushes nothing.
func (r *run) step(n int) error {
	if r.steps -= n; r.steps < 0 {
		return fhir.Errorf(fhir.TooCostly, "the FHIRPath expression takes too many steps on this resource")
	}
	return nil
}

// write bounds the texts that are put together.
func (r *run) write(n int) error {
	if r.text -= n; r.text < 0 {
		return fhir.Errorf(fhir.TooCostly, "the FHIRPath expression makes too long a text of this resource")
	}
	return nil
}

// keep moves what stands from hi on down to lo.
func (r *run) keep(lo, hi int) {
	n := copy(r.stack[lo:], r.stack[hi:])
	r.stack = r.stack[:lo+n]
}

// input evaluates what a function or step is invoked on; without it, that is $this.
func (r *run) input(base node) (lo int, err error) {
	lo = len(r.stack)
	if base != nil {
		return lo, base.eval(r)
	}
	r.stack = append(r.stack, r.this...)
	return lo, r.step(len(r.this))
}

// one evaluates an argument that is to be a single item; nil of an empty collection.
func (r *run) one(n node, what string) (*Item, error) {
	lo := len(r.stack)
	if err := n.eval(r); err != nil {
		return nil, err
	}
	defer func() { r.stack = r.stack[:lo] }()
	switch len(r.stack) - lo {
	case 0:
		return nil, nil
	case 1:
		it := r.stack[lo]
		return &it, nil
	}
	return nil, fault("%s is several items, and is to be one", what)
}

// A tri is true, false or unknown: FHIRPath's logic has three values. §4.5.1
type tri int8

const (
	unknown tri = iota
	no
	yes
)

func triOf(b bool) tri {
	if b {
		return yes
	}
	return no
}

func (r *run) pushTri(t tri) error {
	if t == unknown {
		return nil
	}
	return r.push(computed(t == yes))
}

// truth evaluates a criterion or operand: empty is unknown, and a single item that is no Boolean is true. FHIRPath §4.5
func (r *run) truth(n node) (tri, error) {
	lo := len(r.stack)
	if err := n.eval(r); err != nil {
		return unknown, err
	}
	t, err := truthOf(r.stack[lo:])
	r.stack = r.stack[:lo]
	return t, err
}

func truthOf(items []Item) (tri, error) {
	switch len(items) {
	case 0:
		return unknown, nil
	case 1:
		if b, ok := items[0].Bool(); ok {
			return triOf(b), nil
		}
		if items[0].typ.kind == kindBoolean && !items[0].hasValue() {
			return unknown, nil
		}
		return yes, nil
	}
	return unknown, fault("true or false is wanted, and there are several items")
}

// within runs f with one item as $this, and its place as $index.
func (r *run) within(i int, index int64, f func() error) error {
	this, was := r.this, r.index
	r.this, r.index = r.stack[i:i+1:i+1], index
	err := f()
	r.this, r.index = this, was
	return err
}
