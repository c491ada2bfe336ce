//! Sessions that are kept for their clients, in the order in which they came back.
//!
//! Each turn of a client puts one in and takes one out: both cost the same however many there are, and nothing is
//! allocated. Who calls: `state`.

/// What stands for no place.
const NONE: usize = usize::MAX;

/// Finds a kept session again. Worthless once somebody else has needed the session.
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket {
    place: usize,
    number: u64,
}

impl Ticket {
    /// The ticket of nothing.
    pub(super) const NOTHING: Self = Self {
        place: NONE,
        number: 0,
    };
}

/// What is kept, in a list whose links are places of `places`.
pub(super) struct Kept<T> {
    places: Vec<Place<T>>,
    oldest: usize,
    latest: usize,
    /// The first of the places that nothing stands in, linked by `behind`.
    free: usize,
}

struct Place<T> {
    number: u64,
    what: Option<T>,
    before: usize,
    behind: usize,
}

impl<T> Kept<T> {
    /// With nothing in it.
    pub(super) fn new() -> Self {
        Self {
            places: Vec::new(),
            oldest: NONE,
            latest: NONE,
            free: NONE,
        }
    }

    /// Keeps it as the latest. No two have the same number.
    pub(super) fn push(&mut self, number: u64, what: T) -> Ticket {
        let place = Place {
            number,
            what: Some(what),
            before: self.latest,
            behind: NONE,
        };
        let at = match self.places.get_mut(self.free) {
            Some(free) => {
                let at = std::mem::replace(&mut self.free, free.behind);
                *free = place;
                at
            }
            None => {
                self.places.push(place);
                self.places.len() - 1
            }
        };
        match self.places.get_mut(self.latest) {
            Some(latest) => latest.behind = at,
            None => self.oldest = at,
        }
        self.latest = at;
        Ticket { place: at, number }
    }

    /// Takes it out, if it is still there.
    pub(super) fn take(&mut self, ticket: &Ticket) -> Option<T> {
        let at = ticket.place;
        let place = self.places.get_mut(at)?;
        if place.number != ticket.number {
            return None;
        }
        let what = place.what.take()?;
        let (before, behind) = (place.before, std::mem::replace(&mut place.behind, self.free));
        self.free = at;
        match self.places.get_mut(before) {
            Some(before) => before.behind = behind,
            None => self.oldest = behind,
        }
        match self.places.get_mut(behind) {
            Some(behind) => behind.before = before,
            None => self.latest = before,
        }
        Some(what)
    }

    /// All of it, the oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Ticket, &T)> {
        let mut next = self.oldest;
        std::iter::from_fn(move || {
            let at = next;
            let place = self.places.get(at)?;
            next = place.behind;
            let ticket = Ticket {
                place: at,
                number: place.number,
            };
            Some((ticket, place.what.as_ref()?))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Takes out whatever is asked for, some of it a second time, beside a plain list that does the same.
        #[test]
        fn it_is_a_list_in_order_of_arrival_that_forgets_what_was_taken(
            acts in prop::collection::vec(prop::option::of(0_usize..12), 0..80),
        ) {
            let mut kept = Kept::new();
            let (mut tickets, mut model) = (Vec::new(), Vec::new());
            for (number, act) in (1..).zip(acts) {
                match act {
                    None => {
                        tickets.push((kept.push(number, number), number));
                        model.push(number);
                    }
                    Some(which) if !tickets.is_empty() => {
                        let (ticket, number) = &tickets[which % tickets.len()];
                        let place = model.iter().position(|one| one == number);
                        prop_assert_eq!(kept.take(ticket), place.map(|place| model.remove(place)));
                    }
                    Some(_) => prop_assert_eq!(kept.take(&Ticket::NOTHING), None),
                }
                let in_order: Vec<u64> = kept.iter().map(|(_, number)| *number).collect();
                prop_assert_eq!(&in_order, &model);
                for (ticket, number) in kept.iter() {
                    prop_assert!(tickets.contains(&(ticket, *number)));
                }
            }
            prop_assert!(kept.places.len() <= tickets.len());
        }
    }
}
