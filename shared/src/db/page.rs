//! Pages of a list, newest first, by keyset: any page costs as much as the first.

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait, FromQueryResult, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, Select,
};
use uuid::Uuid;

/// The rows of a list that one page shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The largest number of rows on the page.
    pub limit: u32,
    /// The page begins below this id; without it, at the newest row.
    pub below: Option<Uuid>,
}

/// The rows of one page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice<T> {
    /// The rows, newest first.
    pub rows: Vec<T>,
    /// The next page begins below this id; none on the last page.
    pub next: Option<Uuid>,
}

impl Bounds {
    /// Loads the page of `select`, whose rows the column `id` orders. `id_of` returns the value of that column.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn load<E: EntityTrait, T: FromQueryResult>(
        self,
        db: &impl ConnectionTrait,
        select: Select<E>,
        id: E::Column,
        id_of: impl Fn(&T) -> Uuid,
    ) -> Result<Slice<T>, DbErr> {
        let select = match self.below {
            Some(below) => select.filter(id.lt(below)),
            None => select,
        };
        // One more than shown: it tells whether there is a next page.
        let mut rows = select
            .order_by_desc(id)
            .limit(u64::from(self.limit) + 1)
            .into_model::<T>()
            .all(db)
            .await?;
        let more = rows.len() > self.limit as usize;
        rows.truncate(self.limit as usize);
        let next = rows.last().filter(|_| more).map(id_of);
        Ok(Slice { rows, next })
    }
}

impl<T> Slice<T> {
    /// The same page with every row in another form.
    pub fn map<U>(self, form: impl FnMut(T) -> U) -> Slice<U> {
        Slice {
            rows: self.rows.into_iter().map(form).collect(),
            next: self.next,
        }
    }
}
