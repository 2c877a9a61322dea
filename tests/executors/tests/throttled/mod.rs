//! A TCP server that counts the requests in work, and checks them against a limit that changes.

#![allow(unreachable_pub, reason = "a module of a test")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use futures_aggregate::Limit;

/// A request, as it goes over the wire: four numbers. The server answers with the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    pub run: usize,
    pub id: usize,
    pub weight: usize,
    /// The number of changes of the limit before the poll of the run in which the source started.
    pub changes: usize,
}

impl Request {
    pub const BYTES: usize = 16;

    pub fn bytes(self) -> [u8; Self::BYTES] {
        let numbers = [self.run, self.id, self.weight, self.changes];
        let bytes = numbers.map(|number| u32::try_from(number).unwrap().to_le_bytes());
        bytes.concat().try_into().unwrap()
    }

    fn read(bytes: [u8; Self::BYTES]) -> Self {
        let number = |at: usize| {
            let bytes = bytes[4 * at..][..4].try_into().unwrap();
            u32::from_le_bytes(bytes) as usize
        };
        Self {
            run: number(0),
            id: number(1),
            weight: number(2),
            changes: number(3),
        }
    }
}

/// The server, and the limit that its clients keep.
#[derive(Clone)]
pub struct Server {
    pub address: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
}

struct State {
    /// Each limit so far. It is added before it is set.
    limits: Vec<usize>,
    /// How many of them are set.
    set: usize,
    /// The requests in work, and how many of them there are with each key.
    in_work: Vec<Request>,
    keys: BTreeMap<(usize, usize), usize>,
    most_of_a_key: usize,
    /// How often each source of each run was answered.
    answered: BTreeMap<(usize, usize), usize>,
    /// The number of times that the requests in work needed all of the limit.
    full: usize,
    /// What was wrong.
    complaints: Vec<String>,
}

impl Server {
    /// Starts the server. `key` is the key of a source with this id.
    pub fn start(limit: &Limit, key: fn(usize) -> usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let state = State {
            limits: vec![limit.get()],
            set: 1,
            in_work: Vec::new(),
            keys: BTreeMap::new(),
            most_of_a_key: 0,
            answered: BTreeMap::new(),
            full: 0,
            complaints: Vec::new(),
        };
        let server = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::new((Mutex::new(state), Condvar::new())),
        };
        let accepts = server.clone();
        thread::spawn(move || {
            for connection in listener.incoming() {
                let server = accepts.clone();
                let connection = connection.unwrap();
                thread::spawn(move || server.serve(connection, key));
            }
        });
        server
    }

    fn serve(&self, mut connection: TcpStream, key: fn(usize) -> usize) {
        let mut bytes = [0; Request::BYTES];
        connection.read_exact(&mut bytes).unwrap();
        let request = Request::read(bytes);
        let key = (request.run, key(request.id));
        self.state().begin(request, key);
        thread::sleep(Duration::from_micros(200 * (request.id as u64 % 5)));
        // Before the answer, because the client gives its place back then.
        self.state().end(request, key);
        self.state.1.notify_all();
        connection.write_all(&bytes).unwrap();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap()
    }

    /// The number of changes of the limit that are over.
    pub fn changes(&self) -> usize {
        self.state().set - 1
    }

    /// Changes the limit, each time when so many more requests are answered, until there are `requests`.
    pub fn change_limit(
        &self,
        limit: &Limit,
        every: usize,
        requests: usize,
        mut next: impl FnMut() -> usize,
    ) {
        for answered in (every..requests).step_by(every) {
            let has_come = |state: &mut State| state.answered.len() < answered;
            let minute = Duration::from_secs(60);
            let (mut state, waited) = self
                .state
                .1
                .wait_timeout_while(self.state(), minute, has_come)
                .unwrap();
            assert!(
                !waited.timed_out(),
                "{} of {requests} answers",
                state.answered.len()
            );
            let number = next();
            state.limits.push(number);
            drop(state);
            limit.set(number);
            self.state().set += 1;
        }
    }

    /// Checks what the server has seen of these runs, which are over.
    pub fn check(&self, runs: usize, sources: usize, per_key: usize) {
        let state = self.state();
        assert_eq!(state.complaints, [""; 0]);
        assert!(state.in_work.is_empty());
        let all = (0..runs).flat_map(|run| (0..sources).map(move |id| ((run, id), 1)));
        assert_eq!(state.answered, all.collect());
        assert_eq!(state.most_of_a_key, per_key);
        // Otherwise the limit would not have been put to the test.
        assert!(state.full > 0);
    }
}

impl State {
    fn begin(&mut self, request: Request, key: (usize, usize)) {
        self.in_work.push(request);
        let of_key = self.keys.entry(key).or_default();
        *of_key += 1;
        // Runs with weights have no limit for each key.
        if request.weight == 1 {
            self.most_of_a_key = self.most_of_a_key.max(*of_key);
        }
        // The last of these sources to start has found room for all of them, under the limit of that moment.
        // None of them has started later than it, so at least as many changes were over.
        let changes = self.in_work.iter().map(|it| it.changes).max().unwrap_or(0);
        let limits = &self.limits[changes..];
        let weight: usize = self.in_work.iter().map(|it| it.weight).sum();
        let most = limits.iter().copied().max().unwrap_or(0);
        if weight > most && self.in_work.len() > 1 {
            let in_work = &self.in_work;
            self.complaints
                .push(format!("{weight} in work under {limits:?}: {in_work:?}"));
        }
        self.full += usize::from(weight == most);
    }

    fn end(&mut self, request: Request, key: (usize, usize)) {
        self.in_work.retain(|it| *it != request);
        *self.keys.entry(key).or_default() -= 1;
        *self.answered.entry((request.run, request.id)).or_default() += 1;
    }
}
