//! Control objects in a store: what is in force for each route beside its config, and how it is changed.
//!
//! A change is a new number made from the newest one; where another writer took the number meanwhile, the change is made
//! anew on what that one wrote. Nothing is ever overwritten: going back is a new number with old content.

use crate::store::{Store, StoreError, StoreErrorKind, numbered_key};
use std::collections::BTreeMap;
use understudy_call::control::{Control, FOLDER, Trip, folder_of};

/// Numbers tried before a change gives up: other writers took them all meanwhile.
const TRIES: u32 = 64;

/// The control of a route; `None` where there is none yet.
///
/// # Errors
/// Where the store fails. An object that can't be read is passed over for the one before it.
pub async fn current(store: &Store, route: &str) -> Result<Option<Control>, StoreError> {
    Ok(newest(store, route).await?.1)
}

/// The highest number of a route, 0 = none, and the newest control that can be read.
async fn newest(store: &Store, route: &str) -> Result<(u32, Option<Control>), StoreError> {
    let folder = folder_of(route);
    let Some((highest, _)) = store.latest(&folder).await? else {
        return Ok((0, None));
    };
    for number in (1..=highest).rev().take(TRIES as usize) {
        if let Some(control) = read(store, &folder, number).await? {
            return Ok((highest, Some(control)));
        }
    }
    Ok((highest, None))
}

async fn read(store: &Store, folder: &str, number: u32) -> Result<Option<Control>, StoreError> {
    let key = numbered_key(folder, number);
    let bytes = match store.get(&key).await {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == StoreErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match Control::from_json(&bytes) {
        Ok(mut control) => {
            // The object's number is the version, whatever it says of itself.
            control.version = number;
            Ok(Some(control))
        }
        Err(error) => {
            tracing::warn!(key, %error, "passed over: the control before it counts");
            Ok(None)
        }
    }
}

/// The controls of all routes that have one newer than `known` says, by the object's folder.
///
/// # Errors
/// Where the store fails.
pub async fn newer_than(store: &Store, known: &BTreeMap<String, u32>) -> Result<Vec<Control>, StoreError> {
    let mut highest: BTreeMap<String, u32> = BTreeMap::new();
    for object in store.list(FOLDER).await? {
        let Some((folder, name)) = object.key.rsplit_once('/') else {
            continue;
        };
        let number = name
            .strip_prefix('v')
            .and_then(|name| name.strip_suffix(".json")?.parse().ok());
        if let Some(number) = number.filter(|number| numbered_key(folder, *number) == object.key) {
            let known = highest.entry(folder.to_owned()).or_default();
            *known = number.max(*known);
        }
    }
    let mut controls = Vec::new();
    for (folder, highest) in highest {
        let known = known.get(&folder).copied().unwrap_or_default();
        for number in (known.saturating_add(1)..=highest).rev().take(TRIES as usize) {
            if let Some(control) = read(store, &folder, number).await? {
                controls.extend((folder_of(&control.route) == folder).then_some(control));
                break;
            }
        }
    }
    Ok(controls)
}

/// Changes the control of a route: `change` makes the new one of the newest (an empty one where there is none) and says
/// whether there is anything to write. Returns what is in force then.
///
/// # Errors
/// Where the store fails, or others write all the time. After a retryable error the change may be done all the same; one
/// that sees itself done and says that there is nothing to write can be tried again.
pub async fn change(
    store: &Store,
    route: &str,
    mut change: impl FnMut(&mut Control) -> bool,
) -> Result<Control, StoreError> {
    let folder = folder_of(route);
    for _ in 0..TRIES {
        let (highest, newest) = newest(store, route).await?;
        let mut control = newest.unwrap_or_else(|| Control::of(route));
        if !change(&mut control) {
            return Ok(control);
        }
        control.route = route.to_owned();
        control.version = highest.saturating_add(1);
        let key = numbered_key(&folder, control.version);
        if store.create(&key, control.to_json().into()).await? {
            return Ok(control);
        }
    }
    Err(StoreError::unreadable(&folder, "others write it all the time".into()))
}

/// Writes a trip of the guard; where it is there already nothing is written. Returns what is in force then.
///
/// # Errors
/// As [`change`]; it can be tried again.
pub async fn trip(store: &Store, route: &str, by: &str, trip: &Trip) -> Result<Control, StoreError> {
    change(store, route, |control| {
        let is_new = control.add_trip(trip.clone());
        if is_new {
            control.action = "trip".into();
            control.why = trip.why.clone();
            control.by = by.to_owned();
            control.at = trip.at;
        }
        is_new
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn set(store: &Store, weight: u32) -> Control {
        change(store, "task:a", |control| {
            control.weights.insert("small".into(), weight);
            true
        })
        .await
        .unwrap()
    }

    #[tokio::test]
    async fn changes_are_numbered_and_the_highest_is_in_force() {
        let store = Store::in_memory();
        assert_eq!(current(&store, "task:a").await.unwrap(), None);
        for weight in [5, 10, 5] {
            set(&store, weight).await;
        }
        let control = current(&store, "task:a").await.unwrap().unwrap();
        assert_eq!((control.version, control.weights["small"]), (3, 5));
        let nothing = change(&store, "task:a", |_| false).await.unwrap();
        assert_eq!(nothing.version, 3);
    }

    #[tokio::test]
    async fn writers_at_once_lose_nothing_of_one_another() {
        let store = Store::in_memory();
        let one = |number: u32| {
            let store = store.clone();
            async move {
                let task = Some(format!("t{number}"));
                let candidate = "small".to_owned();
                let told = Trip {
                    candidate,
                    task,
                    ..Trip::default()
                };
                trip(&store, "r", "guard", &told).await.unwrap()
            }
        };
        futures_util::future::join_all((0..12).map(one)).await;
        let control = current(&store, "r").await.unwrap().unwrap();
        assert_eq!((control.trips.len(), control.version), (12, 12));
        // Told again it is there already.
        assert_eq!(one(3).await.version, 12);
    }

    #[tokio::test]
    async fn an_object_that_cant_be_read_is_passed_over_and_its_number_left_to_it() {
        let store = Store::in_memory();
        set(&store, 5).await;
        let bad = numbered_key(&folder_of("task:a"), 2);
        store.put(&bad, "{".into()).await.unwrap();
        let control = current(&store, "task:a").await.unwrap().unwrap();
        assert_eq!((control.version, control.weights["small"]), (1, 5));
        assert_eq!(set(&store, 7).await.version, 3);
    }

    #[tokio::test]
    async fn only_what_is_newer_is_read() {
        let store = Store::in_memory();
        set(&store, 5).await;
        change(&store, "b", |_| true).await.unwrap();
        let all = newer_than(&store, &BTreeMap::new()).await.unwrap();
        assert_eq!(all.len(), 2);
        let known: BTreeMap<String, u32> = all.iter().map(|one| (folder_of(&one.route), one.version)).collect();
        assert_eq!(newer_than(&store, &known).await.unwrap(), []);
        set(&store, 6).await;
        let newer = newer_than(&store, &known).await.unwrap();
        assert_eq!((newer.len(), newer[0].weights["small"]), (1, 6));
    }
}
