package locator

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"tombolo/connector/nrl"
	"tombolo/fhir"
	"tombolo/store"
)

// reconcile makes somebody's pointers at the locator what they should be. onlyGo: what must go is taken away, and nothing else is done yet.
func (p *Publisher) reconcile(ctx context.Context, person string, onlyGo bool) error {
	wanted, err := p.o.Want(ctx, person)
	if err != nil {
		return err
	}
	has, err := p.has(ctx, person)
	if err != nil {
		return err
	}
	for _, typ := range sortedTypes(has) {
		x := has[typ]
		i := slices.IndexFunc(wanted, func(w Wanted) bool { return w.Form.Type.ID == typ })
		if i >= 0 {
			if fixed, _ := hashes(wanted[i].Form.Make(wanted[i].Subject, p.local(person, wanted[i]))); fixed == x.Fixed {
				continue
			}
		}
		if err := p.takeAway(ctx, person, typ, x); err != nil {
			return err
		}
		delete(has, typ)
	}
	if onlyGo {
		return nil
	}
	for _, w := range wanted {
		x, ok := has[w.Form.Type.ID]
		d := w.Form.Make(w.Subject, p.local(person, w))
		_, all := hashes(d)
		switch {
		case !ok || x.ID == "" || p.o.Now().Sub(x.Seen) > p.o.Verify:
			err = p.register(ctx, person, w, d, ok)
		case x.Hash != all:
			err = p.change(ctx, person, w, d, x)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func sortedTypes(has map[string]published) []string {
	out := make([]string, 0, len(has))
	for t := range has {
		out = append(out, t)
	}
	slices.Sort(out)
	return out
}

// takeAway deletes a pointer there, and then what is known of it here. Where it is not known under which id it stands, or whether it does, it is looked for first.
func (p *Publisher) takeAway(ctx context.Context, person, typ string, x published) error {
	ids := []string{x.ID}
	if x.ID == "" {
		found, err := p.o.To.Own(ctx, nrl.Query{Subject: x.Subject, Types: []string{typ}})
		if err != nil {
			return err
		}
		ids = nil
		for _, d := range found.Pointers {
			if d.Local() == x.Local {
				ids = append(ids, d.ID())
			}
		}
	}
	for _, id := range ids {
		if err := p.o.Written(ctx, "withdraw", person, x.Subject, typ, id); err != nil {
			return err
		}
		if err := p.o.To.Delete(ctx, id); err != nil {
			return err
		}
	}
	_, err := p.o.DB.Update(ctx, func(tx store.Tx) error {
		b := tx.Bucket(PublishedBucket)
		b.Delete(p.key("has", person, typ))
		b.Delete(p.key("local", x.Local))
		if x.ID == "" {
			return nil
		}
		return p.count(ctx, b, typ, -1)
	})
	return err
}

// register sees to it that there is one pointer there, and that it is known under which id. What is to be done is written down first. known: it may have been done
// before, by whoever was stopped before they could write down what came of it, so that it is looked for.
func (p *Publisher) register(ctx context.Context, person string, w Wanted, d nrl.Pointer, known bool) error {
	typ := w.Form.Type.ID
	fixed, all := hashes(d)
	x := published{Local: d.Local(), Subject: w.Subject, Fixed: fixed, Hash: all}
	if !known {
		if err := p.keep(ctx, person, typ, x); err != nil {
			return err
		}
	} else {
		found, err := p.o.To.Own(ctx, nrl.Query{Subject: w.Subject, Types: []string{typ}})
		if err != nil {
			return err
		}
		var mine []nrl.Pointer
		for _, f := range found.Pointers {
			if f.Local() == d.Local() {
				mine = append(mine, f)
			}
		}
		for _, twice := range mine[min(1, len(mine)):] {
			if err := p.o.To.Delete(ctx, twice.ID()); err != nil {
				return err
			}
		}
		if len(mine) > 0 {
			x.ID = mine[0].ID()
			return p.change(ctx, person, w, d, x)
		}
		if err := p.keep(ctx, person, typ, x); err != nil { // it is not there, whatever was known
			return err
		}
	}
	if err := p.o.Written(ctx, "register", person, w.Subject, typ, d.Local()); err != nil {
		return err
	}
	var err error
	if x.ID, err = p.o.To.Create(ctx, d, "tombolo-"+d.Local()); err != nil {
		return err
	}
	return p.keep(ctx, person, typ, x)
}

// change makes a pointer there say what it should. One that is not there any more is registered anew.
func (p *Publisher) change(ctx context.Context, person string, w Wanted, d nrl.Pointer, x published) error {
	if err := p.o.Written(ctx, "change", person, w.Subject, w.Form.Type.ID, x.ID); err != nil {
		return err
	}
	err := p.o.To.Update(ctx, nrl.Pointer{Resource: d.With("id", x.ID)})
	if fhir.Is(err, fhir.NotFound) {
		x.ID = ""
		if err := p.keep(ctx, person, w.Form.Type.ID, x); err != nil {
			return err
		}
		return p.register(ctx, person, w, d, true)
	}
	if err != nil {
		return err
	}
	_, x.Hash = hashes(d)
	return p.keep(ctx, person, w.Form.Type.ID, x)
}

// keep writes down what is known of a pointer.
func (p *Publisher) keep(ctx context.Context, person, typ string, x published) error {
	if x.ID != "" {
		x.Seen = p.o.Now()
	}
	_, err := p.o.DB.Update(ctx, func(tx store.Tx) error {
		b := tx.Bucket(PublishedBucket)
		data, ok, err := b.Get(ctx, p.key("has", person, typ))
		if err != nil {
			return err
		}
		var was published
		if ok {
			if err := json.Unmarshal(data, &was); err != nil {
				return err
			}
		}
		b.Put(p.key("has", person, typ), fhir.JSON(x))
		b.Put(p.key("local", x.Local), []byte(person))
		switch {
		case was.ID == "" && x.ID != "":
			return p.count(ctx, b, typ, 1)
		case was.ID != "" && x.ID == "":
			return p.count(ctx, b, typ, -1)
		}
		return nil
	})
	return err
}

func (p *Publisher) count(ctx context.Context, b store.TxBucket, typ string, more int) error {
	var n Counts
	data, ok, err := b.Get(ctx, p.key("n"))
	if err != nil {
		return err
	}
	if ok {
		if err := json.Unmarshal(data, &n); err != nil {
			return err
		}
	}
	if n.ByTyp == nil {
		n.ByTyp = map[string]int{}
	}
	n.There, n.ByTyp[typ] = max(n.There+more, 0), max(n.ByTyp[typ]+more, 0)
	b.Put(p.key("n"), fhir.JSON(n))
	return nil
}

// Sweep looks at everybody: at all who are known, and at all who have pointers, whoever they are by now. It asks the locator nothing by itself.
func (p *Publisher) Sweep(ctx context.Context) error {
	if err := p.o.Settled(ctx); err != nil {
		return err
	}
	for person, err := range p.o.People(ctx) {
		if err == nil {
			err = p.look(ctx, person)
		}
		if err != nil {
			return err
		}
	}
	prefix, last := p.key("has", ""), ""
	for item, err := range p.o.DB.View(PublishedBucket).Scan(ctx, prefix) {
		if err != nil {
			return err
		}
		person, _, _ := strings.Cut(strings.TrimPrefix(item.Key, prefix), "/")
		if person == last {
			continue
		}
		last = person
		if err := p.look(ctx, person); err != nil {
			return err
		}
	}
	return nil
}

// Person finds whose a pointer of this region's is, by its own id: for whoever follows it here. NotFound if there is none.
func (p *Publisher) Person(ctx context.Context, local string) (string, error) {
	person, ok, err := p.o.DB.View(PublishedBucket).Get(ctx, p.key("local", local))
	if err != nil {
		return "", err
	}
	if !ok {
		return "", fhir.Errorf(fhir.NotFound, "there is no such pointer")
	}
	return string(person), nil
}

// Ours reports of pointers whether they are those that an organisation's region has registered by this program.
func Ours(as string) func(nrl.Pointer) bool {
	return func(d nrl.Pointer) bool { return d.Local() != "" && d.Custodian() == as }
}
