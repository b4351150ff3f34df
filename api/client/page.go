package client

import "iter"

// Page says which part of a list to return. The zero Page is its beginning.
type Page struct {
	Size  int    // at most so many, 1 to 1000; zero: 100
	Token string // Next of the List before; empty: the beginning
}

// size is for a request.
func (p Page) size() *uint32 { return new(uint32(p.Size)) }

// List is one page of a list.
type List[T any] struct {
	answer
	Items []T    // the server may return fewer than were asked for, or none, before the end
	Next  string // Token of the Page that follows; empty at the end
}

// all returns every item of a list that is read page by page. An error ends the sequence.
func all[T any](read func(Page) (*List[T], error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		page := Page{Size: 1000}
		for {
			list, err := read(page)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range list.Items {
				if !yield(item, nil) {
					return
				}
			}
			if page.Token = list.Next; page.Token == "" {
				return
			}
		}
	}
}
